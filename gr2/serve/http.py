"""The HTTP re-rank API: the shape that Cohere, Jina and vLLM clients speak, plus `user_history` and `think`. (ours)"""

import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from gr2.serve.rerank import RerankRequest, rerank
from gr2.serve.watch import Watch

if TYPE_CHECKING:
    from gr2.serve.ranker import Bundle  # which brings torch; all that is needed of it here is its shape


def app(bundle: "Bundle") -> FastAPI:
    """The API of one bundle. The model works on one request at a time; what needs no model never waits for it."""
    api = FastAPI(title="GR2", description="An open generative reasoning re-ranker.")
    one_at_a_time, watch = Lock(), Watch(bundle)

    @api.post("/rerank")
    @api.post("/v1/rerank")
    @api.post("/v2/rerank")
    async def post_rerank(request: RerankRequest) -> dict[str, Any]:
        came = time.perf_counter()  # here, so that waiting for a thread counts too
        answer = await run_in_threadpool(rerank, request, bundle, one_at_a_time, came)
        watch.answer(request, answer)
        return answer

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(watch.page(), media_type=CONTENT_TYPE_LATEST)

    @api.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": bundle.name, "items": len(bundle.items), "k": bundle.k}

    @api.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": bundle.name, "object": "model", "owned_by": "gr2"}]}

    @api.exception_handler(RequestValidationError)
    def bad_body(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return refusal(400, f"the body is not JSON: {first['ctx']['error']}")
        where = ".".join(str(part) for part in first["loc"][1:])
        if not where:
            return refusal(422, "the body is no JSON object; send one, with content-type: application/json")
        return refusal(422, f"{where}: {first['msg'].removeprefix('Value error, ')}")

    @api.exception_handler(HTTPException)
    def refused(_: Request, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, str(error.detail))

    def refusal(code: int, message: str) -> JSONResponse:
        watch.refuse(code)
        kind = "invalid_request_error" if code < 500 else "server_error"
        return JSONResponse({"error": {"message": message, "type": kind, "code": code}}, status_code=code)

    return api
