"""One request to an OpenAI-compatible endpoint, and what is to be made of the response. (ours)

The key goes into one header and nowhere else: not into the cache, the record, a message or a log.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gr2.errors import UserError
from gr2.prompt.teacher import Layout
from gr2.teach.budget import Usage

PASSING = (408, 425, 429)
"""Statuses that pass by themselves, as those from 500 do."""
FATAL = (401, 402, 403, 404, 405)
"""Statuses that every other request would meet too."""
LONGEST_WAIT = 600.0
"""Seconds: a server that asks for a longer pause is not waited for."""
SECRET = 16
"""Characters from which on a key is a secret; servers without keys are given shorter ones, such as "EMPTY"."""


class ServerConfig(BaseModel):
    """Where a model is served, and how patiently it is asked; the [opd.server] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    base_url: str = ""
    """Where `/chat/completions` and `/completions` are, for example "http://localhost:8000/v1"."""
    model: str = ""
    """As the server names it; P1's teacher is Qwen3-32B."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; "" for a server that wants none."""
    concurrency: int = Field(default=8, ge=1)
    """Requests under way at once."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds for one whole request."""
    retries: int = Field(default=6, ge=0)
    """Times that a request is sent again after 429, 5xx, a time-out, a broken connection or a reply that is none."""
    backoff: float = Field(default=1.0, gt=0)
    """Seconds before the first retry, doubled with each, less a random part of up to a half."""

    @field_validator("base_url")
    @classmethod
    def _holds_no_key(cls, url: str) -> str:
        if url and (not url.startswith(("http://", "https://")) or "@" in url or "?" in url):
            raise ValueError('write it as "https://host/v1"; a key belongs into the environment (api_key_env)')
        return url.rstrip("/")


class OpenAIConfig(ServerConfig):
    """The [traces.openai] table, and [compress.judge]: a language model that teaches or judges."""

    template: str = "p2"
    """gr2/prompt/templates/teacher_<template>.txt: "p1" or "p2"."""
    priming: bool = True
    """Whether the teacher is reminded of what it knows of the domain: KP (P1 §3)."""
    layout: Layout = "user_first"
    """Which part of a slate comes first; "candidates_first" where many users share candidates (P2)."""
    slates: int = Field(default=1000, ge=1)
    """Training slates that are asked about, drawn at random; all when there are fewer (ours; P2 has 70k)."""
    n: int = Field(default=4, ge=1)
    """Samples asked for in one request, which share the price of its prompt; [traces] attempts limits all (ours)."""
    temperature: float = Field(default=0.8, ge=0)
    """Of sampling (ours)."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest reply, in tokens, with any thought that the model writes before it (ours; P3: reasoning is about 130)."""
    budget_tokens: int = Field(default=2_000_000, ge=1)
    """Tokens, read and written, that these traces may cost; replies from the cache count as what they once cost."""
    budget_cost: float | None = Field(default=None, gt=0)
    """Money that they may cost."""
    price_in: float = Field(default=0.0, ge=0)
    """Of a million tokens read, in the currency of budget_cost."""
    price_out: float = Field(default=0.0, ge=0)
    """Of a million tokens written."""
    cache: Path = Path("cache")
    """Replies are kept below it, in teacher/."""
    extra: dict[str, Any] = {}
    """More of the request's body, as the server wants it: { response_format = { type = "json_object" } }."""

    @model_validator(mode="after")
    def _money_needs_prices(self) -> "OpenAIConfig":
        if self.budget_cost is not None and not (self.price_in or self.price_out):
            raise ValueError("budget_cost needs price_in and price_out")
        return self


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One thing that the model wrote."""

    text: str
    cut: bool
    """The limit of tokens ended it."""


class GivenUp(Exception):
    """This request will never come to anything."""


class Again(Exception):
    """Worth a retry, after `wait` seconds; `billed` when the server may have worked, and will charge, all the same."""

    def __init__(self, reason: str, *, wait: float = 0.0, billed: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.billed = wait, billed


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where requests go."""

    config: ServerConfig
    key: str
    http: httpx.AsyncClient
    path: str
    """Below base_url, such as "chat/completions"."""
    answered: Callable[[dict[str, Any]], bool]
    """Whether a reply holds what was asked for; one that does not is asked for again."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: ServerConfig, path: str, table: str, answered: Callable[[dict[str, Any]], bool]
    ) -> "AsyncIterator[Endpoint]":
        """With connections of its own. Raises UserError, naming the config's table, without a usable key."""
        key = read_key(config, table)
        async with httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=config.concurrency)) as http:
            yield cls(config=config, key=key, http=http, path=path, answered=answered)

    @property
    def url(self) -> str:
        return f"{self.config.base_url}/{self.path}"

    async def post(self, body: bytes) -> dict[str, Any]:
        """The reply to one try: a JSON object that is `answered`.

        Raises Again, GivenUp, or UserError where the fault is the config's.
        """
        try:
            async with asyncio.timeout(self.config.timeout):
                response = await self.http.post(self.url, content=body, headers=self._headers())
        except TimeoutError:
            raise Again(f"no reply in {self.config.timeout:g} s", billed=True) from None
        except httpx.ConnectError:
            raise Again(f"no server at {self.config.base_url}") from None
        except httpx.InvalidURL as error:
            raise UserError(f"base_url = {self.config.base_url!r}: {error}") from None
        except httpx.RequestError as error:
            raise Again(f"the connection broke ({type(error).__name__})", billed=True) from None
        return self._judge(response)

    async def insist(self, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to as many tries as the config allows. Raises UserError where none comes through."""
        reason = ""
        for retry in range(self.config.retries + 1):
            try:
                return await self.post(json.dumps(body).encode())
            except Again as trouble:
                reason = str(trouble)
                if trouble.wait > LONGEST_WAIT:
                    late = f"asks to wait {trouble.wait:.0f} s"
                    raise UserError(f"{self.url}: {reason} ({late}); run again then") from None
                if retry < self.config.retries:
                    await asyncio.sleep(max(trouble.wait, pause(self.config.backoff, retry + 1)))
            except GivenUp as refusal:
                raise UserError(f"{self.url} says {refusal}") from None
        raise UserError(f"{self.url}: {reason} (tried {self.config.retries + 1} times); mend the server and run again")

    def _headers(self) -> dict[str, str]:
        bearer = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return {"Content-Type": "application/json", **bearer}

    def _judge(self, response: httpx.Response) -> dict[str, Any]:
        text = response.text.replace(self.key, "***") if len(self.key) >= SECRET else response.text
        status = response.status_code
        reason = f"HTTP {status}: {' '.join(text[:200].split())}"
        if status in PASSING or status >= 500:
            raise Again(reason, wait=retry_after(response.headers.get("retry-after", "")))
        if status in FATAL or 300 <= status < 400:
            raise UserError(f"{self.url} says {reason}; mend base_url, model or the key in {self.config.api_key_env!r}")
        if status >= 400:
            raise GivenUp(reason)
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict) or not self.answered(reply):
            raise Again(f"no choices in the reply: {reason}", billed=True)
        return reply


def pause(backoff: float, retry: int) -> float:
    """Seconds before the `retry`-th try after the first (from 1): doubled with each, less up to a half."""
    return random.uniform(0.5, 1) * min(LONGEST_WAIT, backoff * 2 ** (retry - 1))


def read_key(config: ServerConfig, table: str) -> str:
    """The key from the environment. Raises UserError, naming the config's table, when it is not there or cannot be
    one."""
    name = config.api_key_env
    key = os.environ.get(name, "").strip() if name else ""
    if name and not key:
        raise UserError(
            f"[{table}] environment variable {name} is not set; "
            'export it, or write api_key_env = "" for a server that wants no key'
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"[{table}] environment variable {name} holds no key: it has other than ASCII characters")
    return key


def retry_after(header: str) -> float:
    """Seconds to wait, from a number of them or a date; 0 for what is neither."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def samples_of(reply: dict[str, Any]) -> tuple[Sample, ...]:
    """The choices of a reply that hold a message; its words are empty when the model gave none."""
    choices = reply.get("choices")
    return tuple(
        Sample(text=text if isinstance(text := choice["message"].get("content"), str) else "", cut=_is_cut(choice))
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict)
    )


def _is_cut(choice: dict[str, Any]) -> bool:
    return choice.get("finish_reason") == "length"


def usage_of(reply: dict[str, Any]) -> Usage | None:
    """Tokens that the server says it counted; None when it does not say, or says none."""
    usage = reply.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(read) is not int or type(written) is not int or min(read, written) < 0 or not read + written:
        return None
    return Usage(tokens_in=read, tokens_out=written)
