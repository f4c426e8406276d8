"""All legacy re-rankers as one: a conditional logit over their scores, weighed on the validation slates as GR2 weighs
its own voices, and without a language model. (ours)

What stands above it knows something that counts, trees, networks and models of sequences together do not.

Shapes: S slates, K candidates, V voices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from gr2.advice.conditional_logit import fit, padded
from gr2.baselines.legacy_scores import LegacyScores
from gr2.baselines.simple import COVISITATION
from gr2.evaluate.answers import from_scores
from gr2.retrieve.folds import user_folds
from gr2.retrieve.neighbours import NO_VOTE
from gr2.types import Ranking, Slate

RIDGE = 1e-3
"""Penalty on the squared weights a validation slate, of voices scaled to deviation one: some are nearly alike."""
FOLDS = 5
OF_THE_SLATE = ("advice", "votes", "pre-ranker")
"""Voices that a slate brings."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The voices, and what each weighs."""

    said: LegacyScores
    weights: np.ndarray
    """(V,) float64."""

    def rank(self, slates: Sequence[Slate]) -> list[Ranking]:
        """Highest sum first; equals keep the incoming order."""
        heard = voices(slates, self.said)
        return [from_scores(s, matrix_KV @ self.weights) for s, matrix_KV in zip(slates, heard, strict=True)]

    def record(self) -> dict[str, float]:
        """For stack.json: voice -> weight, of scores as they come."""
        return dict(zip((*OF_THE_SLATE, *learned(self.said)), self.weights.tolist(), strict=True))


def learned(said: LegacyScores) -> tuple[str, ...]:
    """Voices that are kept there: all that learn."""
    return tuple(name for name in said.by_slate if name != COVISITATION)


def voices(slates: Sequence[Slate], said: LegacyScores) -> list[np.ndarray]:
    """(K, V) scores of each slate's candidates, less their means."""
    heard = []
    for slate, *kept in zip(slates, *(said.scores(name, slates) for name in learned(said)), strict=True):
        silent = (0.0,) * len(slate.candidates)
        votes_K = np.log(np.array(slate.votes or silent) + NO_VOTE)
        matrix_KV = np.column_stack([slate.advice or silent, votes_K, slate.scores, *kept])
        heard.append(matrix_KV - matrix_KV.mean(0))
    return heard


def stack(valid: Sequence[Slate], said: LegacyScores, counts_S: np.ndarray | None = None) -> Stack:
    """The weights under which the logit gives the targets of the validation slates most probability. `counts_S`: what
    each slate counts; left out, all count alike."""
    x_SKV, real_SK = padded(voices(valid, said))
    scale_V = x_SKV[real_SK].std(0)
    scale_V[scale_V == 0] = 1
    targets_S = np.array([s.target for s in valid])
    weights_V = fit(x_SKV / scale_V, real_SK, targets_S, RIDGE * len(valid), counts_S) / scale_V
    return Stack(said=said, weights=weights_V)


def rank_by_folds(
    valid: Sequence[Slate], said: LegacyScores, seed: int, counts_S: np.ndarray | None = None
) -> list[Ranking]:
    """The validation slates themselves, each by weights of the other folds of users: what the stack is worth on slates
    that it was not weighed on. One user alone is ranked by its own."""
    fold_of = user_folds(sorted({s.user_id for s in valid}), FOLDS, seed)
    fold_S = np.array([fold_of[s.user_id] for s in valid])
    rankings: dict[str, Ranking] = {}
    for fold in np.unique(fold_S):
        others_S = fold_S != fold if len(fold_of) > 1 else np.ones(len(valid), bool)
        fitted = stack(list(compress(valid, others_S)), said, None if counts_S is None else counts_S[others_S])
        rankings |= {r.slate_id: r for r in fitted.rank(list(compress(valid, fold_S == fold)))}
    return [rankings[s.slate_id] for s in valid]
