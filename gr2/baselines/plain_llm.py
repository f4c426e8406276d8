"""A plain language model as a ranker: zero-shot, told nothing but titles, never trained. (ours)

After a prompt of the newest titles it scores each candidate's title as the words that would follow: the mean
log-probability of the title's tokens. The candidates are not listed and no label is asked for: small models hardly bind
labels to what they stand for (arXiv 2210.12353). So a score knows no place, and no bias for one has to be taken out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gr2.evaluate.answers import from_scores
from gr2.lm.batches import chunks, pad_left, pad_right
from gr2.progress import track
from gr2.prompt.teacher import plain
from gr2.rl.shared_prefix import completion_log_probs
from gr2.types import Item, Ranking, Slate

HISTORY = 8
"""Newest items that the prompt names."""
LONGEST = 80
"""Characters of a title that are read."""
BATCH = 4
"""Slates a forward pass."""


def rank_plainly(
    slates: Sequence[Slate], items: Mapping[str, Item], model: Any, tokenizer: Any, label: str | None
) -> list[Ranking]:
    """By how likely each candidate's title is to come next; equals keep the incoming order."""
    rankings: list[Ranking] = []
    for part in track(list(chunks(slates, BATCH)), label):
        scores = title_scores(part, items, model, tokenizer)
        rankings += [from_scores(slate, scores_K.numpy()) for slate, scores_K in zip(part, scores, strict=True)]
    return rankings


def prompt(slate: Slate, items: Mapping[str, Item]) -> str:
    """What stands before the next title: the newest titles, oldest first."""
    seen = "".join(f"- {title(items[i])}\n" for i in slate.history[-HISTORY:])
    return f"These were chosen by one and the same person, one after the other:\n{seen}-"


def title(item: Item) -> str:
    """One short line in which nothing can pass for a control token."""
    return plain(item.title)[:LONGEST].strip()


@torch.inference_mode()
def title_scores(slates: Sequence[Slate], items: Mapping[str, Item], model: Any, tokenizer: Any) -> list[Tensor]:
    """(K,) a slate: mean log-probability, in nats a token, of each candidate's title and the end of its line. Every
    prompt is read once."""
    encoded = tokenizer([prompt(s, items) for s in slates], add_special_tokens=False)["input_ids"]
    titles = [f" {title(items[c])}\n" for s in slates for c in s.candidates]
    written = tokenizer(titles, add_special_tokens=False)["input_ids"]
    pad = tokenizer.eos_token_id  # no prompt holds it
    mask_BC = pad_right([[1] * len(row) for row in written], 0)
    logps_BC, _ = completion_log_probs(
        model,
        pad_left(encoded, pad)[0].to(model.device),
        torch.arange(len(slates)).repeat_interleave(torch.tensor([len(s.candidates) for s in slates])).to(model.device),
        pad_right(written, pad).to(model.device),
        mask_BC.to(model.device),
        pad=pad,
        temperature=1.0,
    )
    means_B = logps_BC.float().cpu().sum(-1) / mask_BC.sum(-1)
    return list(means_B.split([len(s.candidates) for s in slates]))
