"""The conditional logit (McFadden 1974) that the advice, its weight and the evidence teacher are fitted by.

Shapes: S slates, K candidates (padded), F features.
"""

from collections.abc import Sequence

import numpy as np

HARDLY = 1e-6
"""Ridge under which what says nothing weighs nothing, and anything else what it does without."""
STEPS = 12
"""Newton steps; the teacher's fit has settled after five."""


def fit(
    x_SKF: np.ndarray, real_SK: np.ndarray, targets_S: np.ndarray, ridge: float, counts_S: np.ndarray | None = None
) -> np.ndarray:
    """(F,) weights w that make the targets likeliest under softmax(x w), by Newton's method from 0. `ridge`: penalty on
    |w|^2 / 2 against the log-likelihood summed over slates; `counts_S`: how much each slate counts, 1 if left out."""
    counts = np.ones(len(targets_S)) if counts_S is None else counts_S
    weights = np.zeros(x_SKF.shape[2])
    chosen = counts @ x_SKF[np.arange(len(targets_S)), targets_S]
    for _ in range(STEPS):
        totals = np.where(real_SK, x_SKF @ weights, -np.inf)
        shares = np.exp(totals - totals.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        means = np.einsum("sk,skf->sf", shares, x_SKF)
        spread = (x_SKF * np.sqrt(counts[:, None] * shares)[:, :, None]).reshape(-1, len(weights))
        curvature = spread.T @ spread - (means.T * counts) @ means + ridge * np.eye(len(weights))
        weights += np.linalg.solve(curvature, chosen - counts @ means - ridge * weights)
    return weights


def padded(matrices: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(S, K, V) and its (S, K) mask: real candidates first, zeros behind the shorter slates."""
    k = max(len(m) for m in matrices)
    x_SKV = np.stack([np.pad(m, ((0, k - len(m)), (0, 0))) for m in matrices])
    return x_SKV, np.arange(k) < np.array([[len(m)] for m in matrices])
