"""Slates as the arrays that advice and legacy re-rankers are fitted on: the features are computed once for all. (ours)

Shapes: S slates, K candidates (of the longest slate; shorter ones are padded behind), F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from gr2.advice.features import Knowledge, features
from gr2.advice.past import Past
from gr2.evaluate.answers import from_scores
from gr2.evaluate.propensity import Examination, weights_of
from gr2.types import Ranking, Slate


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Slates and their features, candidates in incoming order."""

    slates: tuple[Slate, ...]
    names: list[str]
    """(F,) of the features."""
    x_SKF: np.ndarray
    """float32; NaN where unknown, 0 where padded."""
    gains_SK: np.ndarray
    """int64; 0 where padded."""
    real_SK: np.ndarray
    """bool; False where padded."""
    weights_S: np.ndarray
    """What each slate counts; mean 1."""
    past: Past | None = None
    """What networks that read histories see beside the features; None for those that do not."""

    @classmethod
    def of(cls, slates: Sequence[Slate], knowledge: Knowledge, examination: Examination | None = None) -> "Sample":
        """A training slate sees only the counts of other folds of users (`Knowledge`). Clicks of logged slates weigh
        as the chances of their places say, where `examination` knows them."""
        names, matrices = features(slates, knowledge)
        k = max((len(s.candidates) for s in slates), default=0)
        x_SKF = np.zeros((len(slates), k, len(names)), dtype=np.float32)
        gains_SK, real_SK = np.zeros((len(slates), k), dtype=np.int64), np.zeros((len(slates), k), dtype=bool)
        for i, (slate, matrix) in enumerate(zip(slates, matrices, strict=True)):
            x_SKF[i, : len(matrix)], gains_SK[i, : len(matrix)], real_SK[i, : len(matrix)] = matrix, slate.gains, True
        weights_S = weights_of(slates, examination)
        return cls(
            slates=tuple(slates),
            names=names,
            x_SKF=x_SKF,
            gains_SK=gains_SK,
            real_SK=real_SK,
            weights_S=np.ones(len(slates)) if weights_S is None else weights_S,
        )

    def at(self, chosen_S: np.ndarray) -> "Sample":
        """The slates of a (S,) mask."""
        return Sample(
            slates=tuple(self.slates[i] for i in np.flatnonzero(chosen_S)),
            names=self.names,
            x_SKF=self.x_SKF[chosen_S],
            gains_SK=self.gains_SK[chosen_S],
            real_SK=self.real_SK[chosen_S],
            weights_S=self.weights_S[chosen_S],
            past=self.past.at(torch.from_numpy(chosen_S)) if self.past else None,
        )

    def without(self, left_out: Sequence[str]) -> "Sample":
        """All features but those named."""
        kept = [f for f, name in enumerate(self.names) if name not in left_out]
        return replace(self, names=[self.names[f] for f in kept], x_SKF=self.x_SKF[:, :, kept])

    def ranked(self, scores_SK: np.ndarray) -> list[Ranking]:
        """Highest score first; equals keep the incoming order."""
        return [from_scores(s, row[: len(s.candidates)]) for s, row in zip(self.slates, scores_SK, strict=True)]
