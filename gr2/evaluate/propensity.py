"""Position debiasing: how likely each place is looked at, and what clicks are then worth.

The position-based click model: P(click) = P(place looked at) x P(item wanted), the two independent (Richardson et al.
2007). A click at a place that is looked at with chance theta stands for 1 / theta items wanted there, so weights of
1 / theta, clipped, make sums over clicks unbiased (Joachims et al. 2017). theta is estimated by expectation
maximisation from swaps: the same pair of user and item shown at several places. In a grid it is a product, row x
column. Which slates use it how is ours.

`Slate.candidates` is the order shown, so candidate c was shown at place c: only for slates as they were logged.
Shapes: K places, M rows of a log, n slates, G swap sets.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from gr2.errors import UserError
from gr2.evaluate.arrays import gains_of, matched, orders_of, sizes_of
from gr2.evaluate.metrics import per_slate
from gr2.record import read_json
from gr2.types import Ranking, Slate

CLIP = 10.0
"""Largest weight of a click: a little bias for much less variance (ours)."""
STEPS, TOLERANCE = 5_000, 1e-7
IPW = "IPW "
"""Names of weighted metrics begin so."""
FILE = "examination.json"
"""What s04_slates knows of the places of logged slates."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """How likely each place of a logged slate is looked at."""

    propensities: np.ndarray | None
    """(K,) the largest at most 1; None where they cannot be known."""
    source: str
    """Given, estimated from how many rows, or why they cannot be known."""

    @classmethod
    def load(cls, folder: Path) -> "Examination | None":
        """None where `folder` holds slates that were not logged."""
        if not (folder / FILE).exists():
            return None
        raw = read_json(folder / FILE)
        known = raw["propensities"] is not None
        return cls(propensities=np.array(raw["propensities"]) if known else None, source=raw["source"])


def chances(examination: Examination | None) -> np.ndarray | None:
    """(K,) that each place is looked at; None where slates were not logged, or these chances cannot be known."""
    return None if examination is None else examination.propensities


@dataclass(frozen=True, kw_only=True)
class Swaps:
    """Clicks on pairs shown at two places, as if each pair had been shown equally often at both.

    A swap set holds all pairs that were shown at both of two places, so that the items of a set are equally wanted at
    the two: what differs is the place (the interventional sets of Agarwal et al. 2019). Pairs are summed away, so
    two sightings of a pair are enough, where one parameter a pair would need many. The arrays have one length, 2 G.
    """

    sets: np.ndarray
    """0 to G - 1, each twice."""
    places: np.ndarray
    shown: np.ndarray
    """Weight of the set's pairs."""
    clicked: np.ndarray
    """That of their clicks."""


def swaps(places_M: np.ndarray, pairs_M: np.ndarray, clicks_M: np.ndarray) -> Swaps:
    """Find them. `places_M` from 0; `pairs_M` integers that name what is equally wanted whenever it is shown."""
    k = int(places_M.max()) + 1
    _, pair = np.unique(pairs_M, return_inverse=True)
    shape = (int(pair.max()) + 1, k)
    shown = csr_matrix((np.ones(len(pair)), (pair, places_M)), shape=shape)
    several = np.flatnonzero(np.diff(shown.indptr) > 1)
    shown_PK = shown[several].toarray()
    clicked_PK = csr_matrix((clicks_M.astype(float), (pair, places_M)), shape=shape)[several].toarray()
    rows = []
    for a, b in combinations(range(k), 2):
        both = (shown_PK[:, a] > 0) & (shown_PK[:, b] > 0)
        n_a, n_b = shown_PK[both, a], shown_PK[both, b]
        weight = n_a * n_b / (n_a + n_b)
        rates = clicked_PK[both, a] / n_a, clicked_PK[both, b] / n_b
        if sum(rate.sum() for rate in rates) > 0:  # a set without a click says nothing of its places
            rows += [(a, weight.sum(), weight @ rates[0]), (b, weight.sum(), weight @ rates[1])]
    places, weights, clicks = np.array(rows).reshape(-1, 3).T
    return Swaps(sets=np.arange(len(rows)) // 2, places=places.astype(int), shown=weights, clicked=clicks)


def estimate(found: Swaps, k: int, columns: int | None = None) -> np.ndarray:
    """(K,) chance that each place is looked at, the largest 1: only ratios can be known.

    `columns`: items a row of a grid, filled row by row; None for a carousel, or any list, where each place has a
    chance of its own. Raises UserError when the swaps do not link all places.
    """
    parts_K = [np.arange(k)] if columns is None else [np.arange(k) // columns, np.arange(k) % columns]
    _check_linked(found, parts_K)
    factors = [part[found.places] for part in parts_K] + [found.sets]
    *parts, _ = _noisy_product(factors, found.shown, found.clicked)
    theta_K = np.prod([values[part] for values, part in zip(parts, parts_K, strict=True)], axis=0)
    return theta_K / theta_K.max()


def _noisy_product(factors: Sequence[np.ndarray], shown: np.ndarray, clicked: np.ndarray) -> list[np.ndarray]:
    """Most likely probabilities when a click needs all of several independent things, by EM.

    Thing f of row m is number `factors[f][m]` of its kind. After a click all things were so; without one, thing f of
    probability v was so with chance (v - p) / (1 - p), where p is the product over all things.
    """
    values = [np.full(f.max() + 1, 0.5) for f in factors]
    totals = [np.bincount(f, shown) for f in factors]
    for _ in range(STEPS):
        at = [v[f] for v, f in zip(values, factors, strict=True)]
        p = np.minimum(np.prod(at, axis=0), 1 - 1e-9)
        so = [clicked + (shown - clicked) * (v - p) / (1 - p) for v in at]
        new = [np.bincount(f, s) / total for f, s, total in zip(factors, so, totals, strict=True)]
        moved = max(np.abs(n / n.max() - v / v.max()).max() for n, v in zip(new, values, strict=True))
        values = new
        if moved < TOLERANCE:
            break
    return values


def _check_linked(found: Swaps, parts_K: Sequence[np.ndarray]) -> None:
    """The ratios of the chances are determined if the swaps' contrasts have full rank (log P is a sum of parts)."""
    onehot_KP = np.hstack([np.eye(part.max() + 1)[part] for part in parts_K])
    contrasts_GP = onehot_KP[found.places[::2]] - onehot_KP[found.places[1::2]]
    if np.linalg.matrix_rank(contrasts_GP) < onehot_KP.shape[1] - len(parts_K):
        lonely = [str(place + 1) for place in np.flatnonzero(~np.isin(np.arange(len(onehot_KP)), found.places))]
        which = f"place {', '.join(lonely)} has none" if lonely else "they fall into groups of places"
        raise UserError(
            f"too few swaps (one item clicked and shown to one user at several places) to compare all places: {which}; "
            "log some random swaps, or give [slates.log] propensities"
        )


def checked(propensities: Sequence[float], k: int) -> np.ndarray:
    """(K,) those of the first K places. Raises UserError when they are too few or no chances."""
    theta = np.asarray(propensities, float)
    if len(theta) < k or not ((theta > 0) & (theta <= 1)).all():
        raise UserError(f"[slates.log] propensities: give {k} numbers or more, each above 0 and at most 1")
    return theta[:k]


def click_weights(theta_K: np.ndarray, clip: float = CLIP) -> np.ndarray:
    """(K,) 1 / theta, at most `clip`."""
    return 1 / np.maximum(theta_K, 1 / clip)


def slate_weights(slates: Sequence[Slate], theta_K: np.ndarray, clip: float = CLIP) -> np.ndarray:
    """(n,) sum of the weights of a slate's clicks, with a mean of 1: what a slate's loss or reward is multiplied by."""
    weights_n = (gains_of(slates) > 0) @ click_weights(theta_K, clip)
    return weights_n / weights_n.mean()


def weighted_gains(gains: Sequence[int], theta_K: np.ndarray, clip: float = CLIP) -> tuple[float, ...]:
    """Gains g' for the rewards, so that 2^g' - 1 is the click's weight times 2^g - 1; zero stays zero.

    AUC and recall, which ask only whether a gain is above zero, do not see them, and NDCG only among several clicks
    of one slate: between slates, `slate_weights` does the same.
    """
    worth = click_weights(theta_K, clip)[: len(gains)] * (2.0 ** np.asarray(gains) - 1)
    return tuple(np.log2(1 + worth).tolist())


def ipw_per_slate(
    slates: Sequence[Slate], rankings: Iterable[Ranking], theta_K: np.ndarray, clip: float = CLIP
) -> dict[str, np.ndarray]:
    """Metric name -> (n,) values in the order of `slates`, to stand beside `metrics.per_slate`.

    Each click counts its weight, in N@k times its 2^g - 1. The mean of the values is the self-normalised estimate
    R = sum w v / sum w over the slates' weights w, and the values themselves are R + w (v - R) / mean w: they spread as
    that ratio does (to first order), so that bootstraps of their means and differences fit it. Single values may leave
    0 to 1. With one click a slate and equal propensities they are R@k, N@k and MRR. Raises UserError where `per_slate`
    does.
    """
    gains_nK, weights_K = gains_of(slates), click_weights(theta_K, clip)
    ranks_nK = np.argsort(orders_of(matched(slates, rankings), sizes_of(slates)), axis=1) + 1
    if not gains_nK.any(axis=1).all():
        raise UserError(
            f"slate {slates[int(gains_nK.any(axis=1).argmin())].slate_id}: no candidate has a gain; leave it out"
        )
    clicks_nK = (gains_nK > 0) * weights_K
    worth_nK = (2.0**gains_nK - 1) * weights_K
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {f"R@{k}": (clicks_nK, ranks_nK <= k) for k in (1, 3, 5)}
    values |= {f"N@{k}": (worth_nK, (ranks_nK <= k) / np.log2(ranks_nK + 1)) for k in (3, 5)}
    values["MRR"] = clicks_nK, 1 / ranks_nK
    return {f"{IPW}{name}": _ratio((w * v).sum(1), w.sum(1)) for name, (w, v) in values.items()}


def mean_metrics(
    slates: Sequence[Slate], rankings: Sequence[Ranking], examination: Examination | None
) -> dict[str, float]:
    """Metric name -> mean: what rankers are chosen by. Clicks are weighted where the chances of places are known."""
    theta_K = chances(examination)
    if theta_K is None:
        return {name: float(values_n.mean()) for name, values_n in per_slate(slates, rankings).items()}
    weighted = ipw_per_slate(slates, rankings, theta_K)
    return {name.removeprefix(IPW): float(values_n.mean()) for name, values_n in weighted.items()}


def weights_of(slates: Sequence[Slate], examination: Examination | None) -> np.ndarray | None:
    """(n,) `slate_weights` where the chances of places are known, else None."""
    theta_K = chances(examination)
    return None if theta_K is None or not slates else slate_weights(slates, theta_K)


def _ratio(parts_n: np.ndarray, weights_n: np.ndarray) -> np.ndarray:
    """(n,) values whose mean is the ratio of the sums and which spread as it does."""
    ratio = parts_n.sum() / weights_n.sum()
    return np.asarray(ratio + (parts_n - ratio * weights_n) / weights_n.mean())
