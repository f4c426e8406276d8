"""The part of the advice that is linear: a conditional logit over the features that the legacy re-rankers see. (ours)

The pre-ranker's scores are left out: its places tell as much, and a request need not bring scores.

Shapes: S slates, K candidates, F features, G columns of the logit.
"""

from dataclasses import dataclass

import numpy as np

from gr2.advice.conditional_logit import fit
from gr2.advice.features import MOMENT, SCORES
from gr2.advice.sample import Sample

LEFT_OUT = (*SCORES, *MOMENT)
"""What the logit does not read: scores, and what is equal over a slate."""
SHARES = ("together", "near", "after", "basket", "apart")
"""How the names of co-visitation shares begin; their logarithms are read."""
LEAST = 1e-3
"""Added to a share before its logarithm is taken."""
RIDGE = 2e-3
"""Penalty on the squared weights a training slate, of columns scaled to deviation one."""


@dataclass(frozen=True, kw_only=True)
class Logit:
    """A fitted logit."""

    names: tuple[str, ...]
    """(G,) of the columns."""
    weights: np.ndarray
    """(G,) float64."""

    def scores(self, sample: Sample) -> np.ndarray:
        """(S, K) float64, of mean 0 over a slate; 0 where padded."""
        return columns(sample)[1] @ self.weights


def fit_logit(train: Sample) -> Logit:
    """The weights under which the logit gives the targets of the training slates most probability."""
    names, x_SKG = columns(train)
    scale_G = x_SKG[train.real_SK].std(0)
    scale_G[scale_G == 0] = 1
    targets_S = np.array([s.target for s in train.slates])
    ridge = RIDGE * len(train.slates)
    weights_G = fit(x_SKG / scale_G, train.real_SK, targets_S, ridge, train.weights_S) / scale_G
    return Logit(names=names, weights=weights_G)


def columns(sample: Sample) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (G,) and (S, K, G) float64 of what the logit reads: less the slate's mean, 0 where unknown or padded."""
    read = sample.without(LEFT_OUT)
    x_SKG = read.x_SKF.astype(np.float64)
    for g, name in enumerate(read.names):
        if name.startswith(SHARES):
            x_SKG[:, :, g] = np.log(x_SKG[:, :, g] + LEAST)
        elif name == "rank":
            x_SKG[:, :, g] = -np.log1p(x_SKG[:, :, g])
    known_SKG = ~np.isnan(x_SKG) & read.real_SK[:, :, None]
    mean_SG = np.where(known_SKG, x_SKG, 0).sum(1) / known_SKG.sum(1).clip(1)
    return tuple(read.names), np.where(known_SKG, x_SKG - mean_SG[:, None], 0)
