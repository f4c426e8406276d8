"""What asking a model costs, and a limit that is never passed: room is reserved before a request is sent. (ours)"""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens read and written by the model."""

    tokens_in: int = 0
    tokens_out: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(tokens_in=self.tokens_in + other.tokens_in, tokens_out=self.tokens_out + other.tokens_out)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(tokens_in=self.tokens_in - other.tokens_in, tokens_out=self.tokens_out - other.tokens_out)

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Money for a million tokens, in any one currency."""

    million_in: float = 0.0
    million_out: float = 0.0

    def of(self, usage: Usage) -> float:
        return (usage.tokens_in * self.million_in + usage.tokens_out * self.million_out) / 1e6


class Spent(Exception):
    """The budget has no room for a request, and none is under way that could give some back."""


class Budget:
    """Tokens and money that may be spent; for the coroutines of one event loop."""

    def __init__(self, *, max_tokens: int, max_cost: float | None, prices: Prices) -> None:
        self.max_tokens, self.max_cost, self.prices = max_tokens, max_cost, prices
        self.spent = Usage()
        self._held = Usage()
        self._changed = asyncio.Condition()

    @property
    def cost(self) -> float:
        return self.prices.of(self.spent)

    def count(self, usage: Usage) -> None:
        """What was paid for before, in an earlier run: it counts, and it is never refused."""
        self.spent += usage

    async def reserve(self, most: Usage) -> None:
        """Hold the most that a request can cost, waiting for others to end where need be. Raises Spent."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(most) or not self._held.tokens)
            if not self._has_room(most):
                raise Spent
            self._held += most

    async def settle(self, most: Usage, real: Usage) -> None:
        """Give back what was held and count what it really was."""
        async with self._changed:
            self._held -= most
            self.spent += real
            self._changed.notify_all()

    def _has_room(self, most: Usage) -> bool:
        then = self.spent + self._held + most
        return then.tokens <= self.max_tokens and (self.max_cost is None or self.prices.of(then) <= self.max_cost)
