"""Who says how likely each token of a rollout is: a model in this process, one behind a server, or the student itself,
which is told the target.

Shapes: B rollouts, A tokens of the longest of them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gr2.distill.opd import Rollouts, written_logprobs
from gr2.errors import UserError
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import prompt_tokens
from gr2.teach.endpoint import Endpoint, ServerConfig
from gr2.types import Slate

TABLE = "opd.server"


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Who is asked."""

    say: Callable[[Rollouts], Tensor]
    """Rollouts -> (B, A) log-probabilities of what was written, 0 beyond the last token."""
    model: Any | None = None
    """Where its whole distribution can be had."""


def in_process(model: Any) -> Teacher:
    """A model that reads what the student read."""

    @torch.no_grad()
    def say(drawn: Rollouts) -> Tensor:
        return written_logprobs(model, drawn.prompts, drawn.written)

    return Teacher(say=say, model=model)


def itself_told(checkpoint: Checkpoint) -> Teacher:
    """A model that reads the same prompt, but for the advice: there the target is the first. With the student's own
    weights it is self-distillation: what it would write if it knew, it learns to write unknowing (ours)."""

    @torch.no_grad()
    def say(drawn: Rollouts) -> Tensor:
        prompts = prompt_tokens(checkpoint, [told(s) for s in drawn.slates], think=True)
        return written_logprobs(checkpoint.model, prompts, drawn.written)

    return Teacher(say=say)


def told(slate: Slate) -> Slate:
    """The slate as it looks when the advice is for the target, and then for the others as it is."""
    others = slate.advice or (0.0,) * len(slate.candidates)
    return replace(slate, advice=tuple(max(others) + 1 if c == slate.target else a for c, a in enumerate(others)))


def served(config: ServerConfig) -> Teacher:
    """A model behind a server that takes tokens as prompts and tells their log-probabilities, as vLLM's completions do
    with `prompt_logprobs`. Rollouts of one slate go in one request. Raises UserError where none can be had."""

    def say(drawn: Rollouts) -> Tensor:
        return pad_sequence(asyncio.run(ask(config, drawn)), batch_first=True)

    return Teacher(say=say)


async def ask(config: ServerConfig, drawn: Rollouts) -> list[Tensor]:
    """Log-probabilities of what was written, rollout by rollout."""
    groups: dict[str, list[int]] = {}
    for b, slate in enumerate(drawn.slates):
        groups.setdefault(slate.slate_id, []).append(b)
    found: list[Tensor] = [torch.zeros(0)] * len(drawn.slates)
    async with Endpoint.open(config, "completions", TABLE, answered) as server:

        async def about(members: Sequence[int]) -> None:
            texts = [drawn.prompts[b] + drawn.written[b] for b in members]
            reply = await server.insist(
                {"model": config.model, "prompt": texts, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
            )
            by_index = {choice.get("index"): choice for choice in reply["choices"]}
            for place, b in enumerate(members):
                found[b] = read(by_index.get(place, {}), texts[place], len(drawn.written[b]), server.url)

        await asyncio.gather(*map(about, groups.values()))
    return found


def answered(reply: dict[str, Any]) -> bool:
    """Whether the reply holds choices at all."""
    choices = reply.get("choices")
    return isinstance(choices, list) and bool(choices) and all(isinstance(choice, dict) for choice in choices)


def read(choice: dict[str, Any], text: Sequence[int], n_written: int, url: str) -> Tensor:
    """(n_written,) of a choice's last tokens. Raises UserError where the server does not tell them."""
    told_of: Any = choice.get("prompt_logprobs")
    try:
        if len(told_of) != len(text):
            raise ValueError
        last = zip(told_of[-n_written:], text[-n_written:], strict=True)
        return torch.tensor([float(entry[str(token)]["logprob"]) for entry, token in last])
    except (TypeError, ValueError, KeyError):
        raise UserError(
            f"{url} tells no log-probabilities of the prompt's tokens (prompt_logprobs); "
            "serve the teacher's folder with vLLM, or leave [opd.server] out"
        ) from None
