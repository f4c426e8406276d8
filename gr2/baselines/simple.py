"""Rankers that only count: incoming order, popularity, co-visitation, neighbours, advice. All stand in every table."""

from collections.abc import Sequence

import numpy as np

from gr2.advice.features import Knowledge
from gr2.artifacts import Corpus
from gr2.evaluate.answers import from_scores
from gr2.retrieve.popularity import popularity
from gr2.types import Ranking, Slate

COVISITATION = "covisitation"
"""Its name among what legacy re-rankers say."""


def rank_incoming(slates: Sequence[Slate]) -> list[Ranking]:
    """The pre-ranker's own order."""
    return [Ranking(slate_id=s.slate_id, order=tuple(range(len(s.candidates)))) for s in slates]


def rank_popular(slates: Sequence[Slate], corpus: Corpus) -> list[Ranking]:
    """By training events, most first; equals keep the incoming order."""
    counts = popularity(corpus)
    return [from_scores(s, counts[[corpus.row[c] for c in s.candidates]]) for s in slates]


def covisited(slates: Sequence[Slate], knowledge: Knowledge) -> list[np.ndarray]:
    """(K,) a slate, one count: users who had both the candidate and a history item, summed over the history whatever
    its order. A training slate sees only users of the other folds, as its features do."""
    row, counts = knowledge.corpus.row, knowledge.counts
    found = []
    for slate in slates:
        together = counts.without(counts.which(slate)).together
        history, candidates = (np.array([row[i] for i in ids], np.int64) for ids in (slate.history, slate.candidates))
        found.append(np.asarray(together[np.ix_(history, candidates)].sum(axis=0)).ravel())
    return found


def rank_by_votes(slates: Sequence[Slate]) -> list[Ranking]:
    """By what the neighbours say, most votes first; equals, and slates without votes, keep the incoming order."""
    return [from_scores(s, np.array(s.votes or [0.0] * len(s.candidates))) for s in slates]


def rank_by_advice(slates: Sequence[Slate]) -> list[Ranking]:
    """By what GR2 hears beside its model (`advice.advisor`), alone; slates without advice keep their order."""
    return [from_scores(s, np.array(s.advice or [0.0] * len(s.candidates))) for s in slates]
