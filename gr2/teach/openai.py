"""Samples from an OpenAI-compatible chat endpoint, many at once: retries, a cache, a budget, progress. (ours)

Questions are asked in order, `concurrency` at a time, each until it has enough samples; a server that ignores `n` is
asked again and again. When the budget is spent, the key is refused or nothing comes through any more, requests under
way are waited for and a UserError says how to go on: every reply is in the cache by then, and costs nothing any more.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from gr2.errors import UserError
from gr2.progress import bar
from gr2.teach.budget import Budget, Prices, Spent, Usage
from gr2.teach.cache import ReplyCache
from gr2.teach.endpoint import LONGEST_WAIT, Again, Endpoint, GivenUp, OpenAIConfig, Sample, pause, samples_of, usage_of

TRACES = "traces.openai"
IN_A_ROW = 10
"""Questions given up one after the other, after which nothing more is asked."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A chat, and when it has been answered."""

    messages: list[dict[str, str]]
    enough: Callable[[Sequence[Sample]], bool]
    """Whether no more samples are wanted; asked of all so far, before each request."""
    at_most: int
    """Samples wanted if there are never enough."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came back; `samples` and `failures` are as long as the questions."""

    samples: tuple[tuple[Sample, ...], ...]
    failures: tuple[str, ...]
    """Why a question was given up; "" where it was not. What it had got by then is in `samples`."""
    usage: Usage
    cost: float
    requests: int
    """Requests answered, `cached` of them from the cache."""
    cached: int


def ask(
    config: OpenAIConfig, questions: Sequence[Question], seed: int, table: str = TRACES, label: str | None = "teacher"
) -> Asked:
    """Ask all, behind a bar if there is a label. Raises UserError, naming the config's table, when it had to stop
    before the end."""
    return asyncio.run(_ask(config, questions, seed, table, label))


async def _ask(config: OpenAIConfig, questions: Sequence[Question], seed: int, table: str, label: str | None) -> Asked:
    async with Endpoint.open(config, "chat/completions", table, lambda reply: bool(samples_of(reply))) as endpoint:
        return await _Conversation(endpoint, config, questions, seed, table).run(label)


class _Conversation:
    """One run over all questions."""

    def __init__(
        self, endpoint: Endpoint, config: OpenAIConfig, questions: Sequence[Question], seed: int, table: str
    ) -> None:
        self.endpoint, self.config, self.questions, self.seed = endpoint, config, questions, seed
        self.table = table
        self.cache = ReplyCache(folder=self.config.cache / "teacher")
        prices = Prices(million_in=self.config.price_in, million_out=self.config.price_out)
        self.budget = Budget(max_tokens=self.config.budget_tokens, max_cost=self.config.budget_cost, prices=prices)
        self.samples: list[tuple[Sample, ...]] = [()] * len(questions)
        self.failures = [""] * len(questions)
        self.done = [False] * len(questions)
        self.requests = self.cached = 0
        self.row: list[int] = []
        """Questions given up since a request last came through."""
        self.halt = ""
        """Why nothing more is asked; "" while all is well."""
        self.one_by_one = False
        """Whether the server refuses an `n` above 1."""
        self.not_before = 0.0
        """Monotonic time until which the server wants no request."""

    async def run(self, label: str | None) -> Asked:
        waiting = iter(range(len(self.questions)))
        progress = bar()
        task = progress.add_task(label or "", total=len(self.questions))

        def show() -> None:
            progress.update(task, completed=sum(self.done), description=f"{label}, {self.bill()}")

        with progress if label else nullcontext():
            await asyncio.gather(*(self.work(waiting, show) for _ in range(self.config.concurrency)))
        if not any(self.samples) and any(self.failures):
            self.halt = self.halt or f"no request came through ({next(filter(None, self.failures))})"
        if self.halt:
            raise UserError(f"[{self.table}] {self.halt}; {self.how_to_go_on()}")
        return Asked(
            samples=tuple(self.samples),
            failures=tuple(self.failures),
            usage=self.budget.spent,
            cost=self.budget.cost,
            requests=self.requests,
            cached=self.cached,
        )

    def bill(self) -> str:
        """`12,345 tokens, 0.0671`: so far."""
        cost = f", {self.budget.cost:.4f}" if self.config.price_in or self.config.price_out else ""
        return f"{self.budget.spent.tokens:,} tokens{cost}"

    def how_to_go_on(self) -> str:
        first = sum(1 for _ in takewhile(bool, self.done))
        fewer = f", or write slates = {first} to go on with what there is" if first and self.table == TRACES else ""
        return (
            f"{sum(self.done)} of {len(self.done)} slates are answered, and all replies kept in {self.cache.folder}; "
            f"mend this, run again and they cost nothing{fewer}"
        )

    async def work(self, waiting: Iterator[int], show: Callable[[], None]) -> None:
        """Answer questions until there are no more, or there is a reason to halt."""
        while not self.halt and (at := next(waiting, None)) is not None:
            try:
                await self.answer(at)
                self.done[at] = True
            except Spent:
                raised = "raise budget_tokens" if self.config.budget_cost is None else "raise the budget"
                self.halt = self.halt or f"the budget is spent: {self.bill()} ({raised})"
            except UserError as error:
                self.halt = self.halt or str(error)
            except GivenUp as failure:
                self.give_up(at, str(failure))
            show()

    def give_up(self, at: int, reason: str) -> None:
        """Go on without it, unless so many in a row came to nothing that the fault is not theirs."""
        self.failures[at], self.done[at] = reason, not self.halt
        self.row.append(at)
        if len(self.row) >= IN_A_ROW:
            self.halt = self.halt or f"{IN_A_ROW} slates in a row came to nothing (the last: {reason})"
            for unanswered in self.row:
                self.done[unanswered] = False

    async def answer(self, at: int) -> None:
        question = self.questions[at]
        while len(self.samples[at]) < question.at_most and not question.enough(self.samples[at]):
            had = self.samples[at]
            wanted = min(self.config.n, question.at_most - len(had))
            self.samples[at] = had + (await self.request(question.messages, wanted, len(had)))[:wanted]

    async def request(self, messages: list[dict[str, str]], n: int, had: int) -> tuple[Sample, ...]:
        """Up to `n` samples, out of the cache if they are in it. A server that refuses `n` is asked for one."""
        bodies = [self.body(messages, count, had) for count in dict.fromkeys((n, 1))]
        for body in bodies:
            reply = self.cache.get({"url": self.endpoint.url, "body": body})
            if reply is not None:
                self.budget.count(usage_of(reply) or self.most(body))
                self.requests, self.cached = self.requests + 1, self.cached + 1
                return samples_of(reply)
        if self.one_by_one or n == 1:
            return await self.pay(bodies[-1])
        try:
            return await self.pay(bodies[0])
        except GivenUp as failure:
            if not str(failure).startswith(("HTTP 400", "HTTP 422")):
                raise
        samples = await self.pay(bodies[-1])
        self.one_by_one = True
        return samples

    def body(self, messages: list[dict[str, str]], n: int, had: int) -> dict[str, Any]:
        """Of a request. The seed tells the requests of one question apart, for the server and in the cache."""
        return {
            "model": self.config.model,
            "messages": messages,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
            "seed": self.seed + had,
            "stream": False,
            **({"n": n} if n > 1 else {}),
            **self.config.extra,
        }

    def most(self, body: dict[str, Any]) -> Usage:
        """The most that a request can cost: no token is shorter than a byte."""
        return Usage(tokens_in=len(json.dumps(body)), tokens_out=body.get("n", 1) * self.config.max_tokens)

    async def pay(self, body: dict[str, Any]) -> tuple[Sample, ...]:
        """Send, again and again where that may help, and keep the reply. Raises GivenUp, Spent or UserError."""
        reason = ""
        for retry in range(self.config.retries + 1):
            await self.pause(retry)
            if self.halt:
                raise GivenUp(reason or "stopped")
            try:
                reply = await self.try_once(body)
            except Again as trouble:
                reason = str(trouble)
                if trouble.wait > LONGEST_WAIT:
                    raise GivenUp(f"{reason} (asks to wait {trouble.wait:.0f} s)") from None
                self.not_before = max(self.not_before, time.monotonic() + trouble.wait)
            else:
                self.cache.put({"url": self.endpoint.url, "body": body}, reply)
                self.requests += 1
                self.row.clear()
                return samples_of(reply)
        raise GivenUp(f"{reason} (tried {self.config.retries + 1} times)")

    async def pause(self, retry: int) -> None:
        """Exponential back-off with jitter, after whatever pause the server has asked of all."""
        jittered = pause(self.config.backoff, retry) if retry else 0.0
        await asyncio.sleep(max(0.0, self.not_before - time.monotonic()) + jittered)

    async def try_once(self, body: dict[str, Any]) -> dict[str, Any]:
        """One try within the budget. What may have been billed without a reply counts as the most it can have cost."""
        most, real = self.most(body), Usage()
        await self.budget.reserve(most)
        try:
            reply = await self.endpoint.post(json.dumps(body).encode())
            real = usage_of(reply) or most
            return reply
        except Again as trouble:
            real = most if trouble.billed else real
            raise
        finally:
            await self.budget.settle(most, real)
