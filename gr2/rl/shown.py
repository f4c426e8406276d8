"""Slates shown in another order than they came in, so that a place carries no answer (method §4, ours)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar
from zlib import crc32

import numpy as np

from gr2.types import Answer, Ranking, Slate

Ordered = TypeVar("Ordered", Answer, Ranking)


def shown_as(slate: Slate, places: Sequence[int]) -> Slate:
    """The same slate with candidate `places[i]` at place i."""
    return replace(
        slate,
        candidates=tuple(slate.candidates[c] for c in places),
        scores=tuple(slate.scores[c] for c in places),
        gains=tuple(slate.gains[c] for c in places),
        votes=tuple(slate.votes[c] for c in places) if slate.votes else (),
        advice=tuple(slate.advice[c] for c in places) if slate.advice else (),
    )


def random_places(slate: Slate, seed: int) -> tuple[int, ...]:
    """A permutation of range(K) that seed and slate_id decide."""
    rng = np.random.default_rng((seed, crc32(slate.slate_id.encode())))
    return tuple(rng.permutation(len(slate.candidates)).tolist())


def as_it_came(answer: Ordered, places: Sequence[int]) -> Ordered:
    """An answer, or a ranking, about the slate as shown, in the places in which its candidates came in."""
    return replace(answer, order=tuple(places[c] for c in answer.order))
