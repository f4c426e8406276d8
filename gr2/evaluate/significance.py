"""How sure a number is.

A user's slates are not independent (one taste, one pre-ranker's view of it), so the bootstrap draws
*users* with all their slates. McNemar's test, which the field uses for R@1, takes slates as independent
and is exact otherwise; read it beside the bootstrap. (DESIGN §5)

Shapes: n slates or events, U users, C columns (a ranker's metric each), D draws.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

DRAWS = 10_000
CHUNK = 1_000


def bootstrap_means(values_nC: np.ndarray, users: Sequence[str], seed: int = 0) -> np.ndarray:
    """(DRAWS, C) means of C columns over the slates of U users drawn with replacement, the same draws for each column.

    So the difference of two columns of the result is the bootstrap of their paired difference.
    """
    _, group = np.unique(np.asarray(users), return_inverse=True)
    sizes_U = np.bincount(group)
    sums_UC = np.stack([np.bincount(group, weights=column) for column in np.asarray(values_nC, float).T], axis=1)
    rng, equal = np.random.default_rng(seed), np.full(len(sizes_U), 1 / len(sizes_U))
    means = []
    for _ in range(DRAWS // CHUNK):
        times_drawn = rng.multinomial(len(sizes_U), equal, size=CHUNK)
        means.append((times_drawn @ sums_UC) / (times_drawn @ sizes_U)[:, None])
    return np.concatenate(means)


def interval(means_D: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of a mean from its bootstrap."""
    low, high = np.quantile(means_D, (0.025, 0.975))
    return float(low), float(high)


def paired_p(observed: float, differences_D: np.ndarray) -> float:
    """Two-sided p of "the means are equal": how often a difference centred on zero is as far out as the one observed.

    1.0 for identical rankers; never below 1 / (DRAWS + 1).
    """
    extreme = np.count_nonzero(np.abs(differences_D - observed) >= abs(observed) - 1e-12)
    return float((extreme + 1) / (len(differences_D) + 1))


def paired_bootstrap(ours_n: np.ndarray, theirs_n: np.ndarray, users: Sequence[str], seed: int = 0) -> float:
    """`paired_p` of two rankers' values on the same slates."""
    difference = np.asarray(ours_n, float) - np.asarray(theirs_n, float)
    return paired_p(float(difference.mean()), bootstrap_means(difference[:, None], users, seed)[:, 0])


def mcnemar(ours_n: np.ndarray, theirs_n: np.ndarray) -> float:
    """Exact two-sided p of two rows of hits (non-zero) and misses on the same slates; 1.0 when they never differ."""
    ours, theirs = np.asarray(ours_n) > 0, np.asarray(theirs_n) > 0
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    if only_ours + only_theirs == 0:
        return 1.0
    return float(binomtest(only_ours, only_ours + only_theirs, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values adjusted for testing them all, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))).clip(max=1.0)
    adjusted = np.empty(len(p))
    adjusted[order] = stepped
    return [float(a) for a in adjusted]
