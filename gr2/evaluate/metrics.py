"""R@1, R@3, R@5, N@3, N@5 and MRR of each slate, through ir-measures.

A slate is a query, a candidate's position its document, `-rank` its score: ir-measures breaks ties by
document id, and ranks have no ties. The relevance is 2^gain - 1, so that NDCG has P2's gains; recall and
MRR ask only whether it is above zero. With one positive R@k is the share of slates with the target
among the first k.
"""

from collections.abc import Iterable, Sequence

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from gr2.errors import UserError
from gr2.types import Ranking, Slate

MEASURES = {"R@1": R @ 1, "R@3": R @ 3, "R@5": R @ 5, "N@3": nDCG @ 3, "N@5": nDCG @ 5, "MRR": RR}


def per_slate(slates: Sequence[Slate], rankings: Iterable[Ranking]) -> dict[str, np.ndarray]:
    """Metric name -> (n,) values, in the order of `slates`.

    Raises UserError when a slate has no ranking, or one that is no permutation of its candidates, or no positive.
    """
    orders = {r.slate_id: r.order for r in rankings}
    relevance, run = {}, {}
    for slate in slates:
        order = orders.get(slate.slate_id)
        if order is None or sorted(order) != list(range(len(slate.candidates))):
            raise UserError(
                f"slate {slate.slate_id}: its ranking {order} is no permutation of its candidates; rank it again"
            )
        if not any(slate.gains):
            raise UserError(f"slate {slate.slate_id}: no candidate has a gain; drop it, or evaluate it end to end only")
        relevance[slate.slate_id] = {str(c): 2**g - 1 for c, g in enumerate(slate.gains)}
        run[slate.slate_id] = {str(c): -float(rank) for rank, c in enumerate(order, 1)}
    names = {str(m): name for name, m in MEASURES.items()}
    values = {name: dict.fromkeys(relevance, 0.0) for name in MEASURES}
    for one in ir_measures.iter_calc(list(MEASURES.values()), relevance, run):
        values[names[str(one.measure)]][one.query_id] = one.value
    return {name: np.array([v[s.slate_id] for s in slates]) for name, v in values.items()}


def recall_at_1(slates: Sequence[Slate], rankings: Iterable[Ranking]) -> float:
    """Mean R@1, for the curves of training."""
    return float(per_slate(slates, rankings)["R@1"].mean())
