"""A real HTTP server on a port of its own that stands for an OpenAI-compatible endpoint; a test says what it does."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

KEY = "sk-the-secret-of-the-tests"
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


class ChatServer:
    """`act(number, body)` answers the `number`-th request (from 0) since `asked` was last cleared."""

    def __init__(self) -> None:
        self.act: Callable[[int, dict[str, Any]], Any] = lambda number, body: completion("ok")
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = self.most_under_way = 0
        self.app = FastAPI()
        for path in ("/v1/chat/completions", "/v1/completions"):
            self.app.post(path)(self.complete)
        self.url = ""

    async def complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        number = len(self.asked)
        self.asked.append(body)
        self.times.append(time.monotonic())
        self.headers.append(dict(request.headers))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            reply = self.act(number, body)
            return await reply if asyncio.iscoroutine(reply) else reply
        finally:
            self.under_way -= 1


@contextmanager
def running() -> Iterator[ChatServer]:
    chat = ChatServer()
    server = uvicorn.Server(uvicorn.Config(chat.app, port=0, log_level="critical", timeout_graceful_shutdown=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    chat.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    yield chat
    server.should_exit = True
    thread.join()


def completion(*texts: str, finish: str = "stop", usage: Any = USAGE) -> JSONResponse:
    """A reply with one choice a text, as OpenAI writes it."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        for i, text in enumerate(texts)
    ]
    return JSONResponse({"object": "chat.completion", "choices": choices, "usage": usage})


def failure(status: int, text: str = "no", **headers: str) -> JSONResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": {"message": text}}, status_code=status, headers=named)


def cut_off() -> Response:
    """Half of a reply, then the connection is closed."""

    async def half() -> Any:
        yield b'{"choices": [{"message"'
        raise ConnectionAbortedError

    return StreamingResponse(half(), media_type="application/json", headers={"content-length": "1000"})


async def stall(seconds: float = 5.0) -> Response:
    await asyncio.sleep(seconds)
    return completion("too late")
