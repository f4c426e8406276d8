"""Rankers that learn nothing: the incoming order and popularity. Both are rows of every table (DESIGN §5)."""

from collections.abc import Sequence

import numpy as np

from gr2.artifacts import Corpus
from gr2.retrieve.popularity import popularity
from gr2.types import Ranking, Slate


def rank_incoming(slates: Sequence[Slate]) -> list[Ranking]:
    """The pre-ranker's own order."""
    return [Ranking(slate_id=s.slate_id, order=tuple(range(len(s.candidates)))) for s in slates]


def rank_popular(slates: Sequence[Slate], corpus: Corpus) -> list[Ranking]:
    """By training events, most first; equals keep the incoming order."""
    counts = popularity(corpus)
    return [rank_by_score(s, counts[[corpus.row[c] for c in s.candidates]]) for s in slates]


def rank_by_score(slate: Slate, scores: np.ndarray) -> Ranking:
    """By (K,) scores, highest first; equals keep the incoming order."""
    return Ranking(slate_id=slate.slate_id, order=tuple(int(c) for c in np.argsort(-scores, kind="stable")))
