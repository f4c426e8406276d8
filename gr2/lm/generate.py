"""Writing: whole completions, free or held to what is a valid answer; and thoughts as far as they lead to a choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from gr2.lm.batches import chunks, pad_left
from gr2.lm.checkpoint import Checkpoint
from gr2.progress import track
from gr2.prompt.render import END, END_THINK, LABELS, PAD
from gr2.sid.trie import Trie
from gr2.teach.rationale import ARROW
from gr2.types import Slate


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Longest completion, in tokens."""

    thought: int = 48
    """Without `</think>` by then, a held completion is made to close its thought, and a free one is cut off later."""
    batch_size: int = 128
    """Slates a batch."""


def longest_rollout(slates: Sequence[Slate], thought: int) -> int:
    """Tokens of a free completion with so long a thought: its end, a label for each candidate, and the last token."""
    return thought + max(len(s.candidates) for s in slates) + 2


class AnswerConstraint(LogitsProcessor):
    """Allows only tokens that can still become a valid answer: after the thought each label once, then the end (ours).

    A thought is free but for the end and padding tokens, and is closed when its budget is spent.
    """

    def __init__(
        self, labels: Sequence[Sequence[int]], prompt_length: int, *, close: int, stop: int, pad: int, budget: int
    ) -> None:
        """`labels[b]` are the K tokens that name the candidates; `budget` is the longest thought in tokens."""
        self.labels, self.prompt_length, self.budget = labels, prompt_length, budget
        self.close, self.stop, self.pad = close, stop, pad

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        held = torch.full_like(scores, -torch.inf)
        for b, written in enumerate(input_ids[:, self.prompt_length :].tolist()):
            allowed = self.allowed(b, written)
            if allowed is None:
                held[b] = scores[b]
                held[b, [self.stop, self.pad]] = -torch.inf
            else:
                held[b, allowed] = scores[b, allowed]
        return held

    def allowed(self, b: int, written: list[int]) -> list[int] | None:
        """Tokens that may follow `written`; None for any token of a thought."""
        if self.close not in written:
            return [self.close] if len(written) >= self.budget else None
        answer = written[written.index(self.close) + 1 :]
        if self.stop in answer:
            return [self.pad]
        return [label for label in self.labels[b] if label not in answer] or [self.stop]


class CitationConstraint(LogitsProcessor):
    """Lets a thought cite by id only what the prompt shows of the history; all other words are free. A small model
    makes ids up: two thirds of what it cited stood in no history (docs/log.md). (ours)"""

    def __init__(self, shown: Sequence[Sequence[Sequence[int]]], prompt_length: int, codes: Sequence[int]) -> None:
        """`shown[b]` are the spelled ids of the history that prompt b shows; `codes` all tokens that spell ids."""
        self.tries = [Trie(ids) if ids else None for ids in shown]
        self.prompt_length, self.codes, self.known = prompt_length, list(codes), frozenset(codes)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        held = scores.clone()
        held[:, self.codes] = -torch.inf
        for b, written in enumerate(input_ids[:, self.prompt_length :].tolist()):
            begun, following = self.following(b, written)
            if begun:
                held[b] = -torch.inf
            held[b, following] = scores[b, following]
        return held

    def following(self, b: int, written: Sequence[int]) -> tuple[bool, list[int]]:
        """Whether an id is begun, and the codes that may follow."""
        trie = self.tries[b]
        if trie is None:
            return False, []
        spelled = list(takewhile(self.known.__contains__, reversed(written)))[::-1]
        begun = spelled[len(spelled) - len(spelled) % trie.depth :]
        return bool(begun), list(trie.allowed(begun))


def complete(
    checkpoint: Checkpoint, slates: Sequence[Slate], *, constrained: bool, budget: Budget, label: str | None
) -> list[str]:
    """The model's most likely thought and answer for each slate, up to and including the end token."""
    tokenizer = checkpoint.tokenizer
    close, stop, pad = (tokenizer.convert_tokens_to_ids(t) for t in (END_THINK, END, PAD))
    labels = tokenizer.convert_tokens_to_ids(list(LABELS))
    texts: list[str] = []
    for part in track(list(chunks(slates, budget.batch_size)), label):
        prompts = prompt_tokens(checkpoint, part, think=True)
        held = AnswerConstraint(
            [labels[: len(s.candidates)] for s in part],
            max(map(len, prompts)),
            close=close,
            stop=stop,
            pad=pad,
            budget=budget.thought,
        )
        longest = longest_rollout(part, budget.thought)
        written = greedy(checkpoint, prompts, longest=longest, stops=[stop], hold=held if constrained else None)
        texts += [text.replace(PAD, "") for text in tokenizer.batch_decode(written, skip_special_tokens=False)]
    return texts


def reason(
    checkpoint: Checkpoint, slates: Sequence[Slate], *, budget: Budget, label: str | None
) -> tuple[list[list[int]], list[str]]:
    """The model's most likely reasons for each slate, held to cite what the prompt shows: tokens of prompt, reasons and
    arrow, and the reasons as text.

    The arrow, where a thought names its candidate, is put where the model puts it or where it stops without one. (ours)
    """
    tokenizer, pad = checkpoint.tokenizer, checkpoint.tokenizer.pad_token_id
    encode = partial(tokenizer, add_special_tokens=False)
    arrow = encode(f" {ARROW} ")["input_ids"]
    stops = {encode(f" {ARROW}")["input_ids"][-1], pad, *(tokenizer.convert_tokens_to_ids(t) for t in (END_THINK, END))}
    rows: list[list[int]] = []
    texts: list[str] = []
    for part in track(list(chunks(slates, budget.batch_size)), label):
        prompts = prompt_tokens(checkpoint, part, think=True)
        shown = [checkpoint.id_tokens.of(checkpoint.renderer.shown(s)).tolist() for s in part]
        hold = CitationConstraint(shown, max(map(len, prompts)), checkpoint.id_tokens.codes)
        written = greedy(checkpoint, prompts, longest=budget.thought, stops=sorted(stops), hold=hold)
        reasons = [list(takewhile(lambda t: t not in stops, row)) for row in written.tolist()]
        rows += [prompt + own + arrow for prompt, own in zip(prompts, reasons, strict=True)]
        texts += tokenizer.batch_decode(reasons)
    return rows, texts


@torch.inference_mode()
def greedy(
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    *,
    longest: int,
    stops: Sequence[int],
    hold: LogitsProcessor | None = None,
) -> Tensor:
    """(B, T) the likeliest token after the other behind each prompt, at most `longest`, padded behind the first of
    `stops`. `hold` takes away what must not be written; prompts are as long to it as the longest."""
    model, pad = checkpoint.model, checkpoint.tokenizer.pad_token_id
    ids, mask = pad_left(prompts, pad)
    written: Tensor = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=longest,
        do_sample=False,
        eos_token_id=list(stops),
        pad_token_id=pad,
        logits_processor=LogitsProcessorList([hold] if hold else []),
    )
    return written[:, ids.shape[1] :]


def prompt_tokens(checkpoint: Checkpoint, slates: Sequence[Slate], *, think: bool) -> list[list[int]]:
    """Token numbers of the prompts."""
    texts = [checkpoint.renderer.prompt(s, think=think) for s in slates]
    encoded: Any = checkpoint.tokenizer(texts, add_special_tokens=False)
    return encoded["input_ids"]
