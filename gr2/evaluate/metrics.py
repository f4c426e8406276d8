"""R@1, R@3, R@5, N@3, N@5 and MRR of each slate, all slates at once, and the same through ir-measures.

The relevance is 2^gain - 1, so that NDCG has P2's gains. Recall and MRR ask only whether it is above zero: R@k is the
share of a slate's positives among its first k. With one positive that is whether the target is there; with two, R@1
is at most 1/2. For ir-measures a slate is a query, a candidate's position its document, `-rank` its score: it breaks
ties by document id, and ranks have no ties.

Shapes: n slates, K candidates of the longest.
"""

from collections.abc import Iterable, Iterator, Sequence

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from gr2.errors import UserError
from gr2.evaluate.arrays import gains_of, matched, orders_of, sizes_of
from gr2.types import Ranking, Slate

MEASURES = {"R@1": R @ 1, "R@3": R @ 3, "R@5": R @ 5, "N@3": nDCG @ 3, "N@5": nDCG @ 5, "MRR": RR}
CHUNK = 65_536
"""Slates measured at once: bounds the memory beyond the result."""
CHECKED = 1_000
"""Slates that `check` also measures with ir-measures."""


def per_slate(slates: Sequence[Slate], rankings: Iterable[Ranking]) -> dict[str, np.ndarray]:
    """Metric name -> (n,) values, in the order of `slates`.

    Raises UserError when a slate has no ranking, or two, or one that is no permutation of its candidates, or has no
    positive, and when a ranking is of another slate.
    """
    ranked = matched(slates, rankings)
    values = {name: np.empty(len(slates)) for name in MEASURES}
    for start in range(0, len(slates), CHUNK):
        part = slice(start, start + CHUNK)
        gains_nK = gains_of(slates[part])
        if not gains_nK.any(axis=1).all():
            slate = slates[start + int(gains_nK.any(axis=1).argmin())]
            raise UserError(f"slate {slate.slate_id}: no candidate has a gain; leave it out, its event counts 0")
        for name, values_n in measured(gains_nK, orders_of(ranked[part], sizes_of(slates[part]))):
            values[name][part] = values_n
    return values


def measured(gains_nK: np.ndarray, orders_nK: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Each metric's (n,) values of rankings that are permutations, of slates that have a positive."""
    worth_nK = np.exp2(gains_nK) - 1
    ranked_nK = np.take_along_axis(worth_nK, orders_nK, axis=1)
    ideal_nK = -np.sort(-worth_nK, axis=1)
    found_nK = ranked_nK > 0
    discount_K = 1 / np.log2(np.arange(worth_nK.shape[1]) + 2)
    for k in (1, 3, 5):
        yield f"R@{k}", found_nK[:, :k].sum(axis=1) / found_nK.sum(axis=1)
    for k in (3, 5):
        yield f"N@{k}", (ranked_nK[:, :k] @ discount_K[:k]) / (ideal_nK[:, :k] @ discount_K[:k])
    yield "MRR", 1 / (1 + found_nK.argmax(axis=1))


def through_ir_measures(slates: Sequence[Slate], rankings: Iterable[Ranking]) -> dict[str, np.ndarray]:
    """The same as `per_slate` from ir-measures, slate by slate: the reference, some 25 times slower."""
    relevance, run = {}, {}
    for slate, ranking in zip(slates, matched(slates, rankings), strict=True):
        relevance[slate.slate_id] = {str(c): 2**g - 1 for c, g in enumerate(slate.gains)}
        run[slate.slate_id] = {str(c): -float(rank) for rank, c in enumerate(ranking.order, 1)}
    names = {str(m): name for name, m in MEASURES.items()}
    values = {name: dict.fromkeys(relevance, 0.0) for name in MEASURES}
    for one in ir_measures.iter_calc(list(MEASURES.values()), relevance, run):
        values[names[str(one.measure)]][one.query_id] = one.value
    return {name: np.array([v[s.slate_id] for s in slates]) for name, v in values.items()}


def check(slates: Sequence[Slate], rankings: Sequence[Ranking], values: dict[str, np.ndarray]) -> None:
    """Raises RuntimeError when ir-measures finds other values for the first CHECKED slates."""
    reference = through_ir_measures(slates[:CHECKED], matched(slates, rankings)[:CHECKED])
    for name, expected_n in reference.items():
        if not np.allclose(values[name][:CHECKED], expected_n, rtol=0, atol=1e-9):
            raise RuntimeError(f"{name}: not what ir-measures {ir_measures.__version__} finds for the same rankings")


def recall_at_1(slates: Sequence[Slate], rankings: Iterable[Ranking]) -> float:
    """Mean R@1, for the curves of training."""
    return float(per_slate(slates, rankings)["R@1"].mean())
