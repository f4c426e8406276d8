"""Slates and rankings as integer tables, so that a million are measured at once. (ours)

Shapes: n slates, K candidates of the longest. A shorter slate is filled up with candidates that nobody took, each
ranked in its own place behind the others: every row stays a permutation, and what was added neither gains nor moves.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from gr2.errors import UserError
from gr2.types import Ranking, Slate


def matched(slates: Sequence[Slate], rankings: Iterable[Ranking]) -> list[Ranking]:
    """The ranking of each slate, in the order of `slates`.

    Raises UserError when a slate has none or two, or is ranked without being there.
    """
    ranked = list(rankings)
    by_slate = {r.slate_id: r for r in ranked}
    if len(by_slate) < len(ranked):
        twice = Counter(r.slate_id for r in ranked).most_common(1)[0][0]
        raise UserError(f"slate {twice}: ranked twice; keep one ranking of it")
    for slate in slates:
        if slate.slate_id not in by_slate:
            raise UserError(f"slate {slate.slate_id}: no ranking; let its ranker say `unanswered` (evaluate.answers)")
    if len(by_slate) > len(slates):
        other = min(by_slate.keys() - {s.slate_id for s in slates})
        raise UserError(f"slate {other}: ranked, but not among the slates to be measured; leave it out")
    return [by_slate[s.slate_id] for s in slates]


def orders_of(rankings: Sequence[Ranking], sizes_n: np.ndarray) -> np.ndarray:
    """(n, K) candidates, best first. Raises UserError for one that is no permutation of its `sizes_n` candidates."""
    orders = [r.order for r in rankings]
    lengths_n = np.fromiter(map(len, orders), np.int64, len(orders))
    wrong_n = lengths_n != sizes_n
    if not wrong_n.any():
        orders_nK = padded(orders, np.arange(int(sizes_n.max(initial=0))))
        wrong_n = (np.sort(orders_nK, axis=1) != np.arange(orders_nK.shape[1])).any(axis=1)
    if wrong_n.any():
        ranking = rankings[int(wrong_n.argmax())]
        raise UserError(
            f"slate {ranking.slate_id}: its ranking {ranking.order} is no permutation of its candidates; rank it again"
        )
    return orders_nK


def gains_of(slates: Sequence[Slate]) -> np.ndarray:
    """(n, K) gains, in incoming order."""
    return padded([s.gains for s in slates], np.zeros(max((len(s.gains) for s in slates), default=0), np.int64))


def sizes_of(slates: Sequence[Slate]) -> np.ndarray:
    """(n,) candidates of each slate."""
    return np.fromiter((len(s.candidates) for s in slates), np.int64, len(slates))


def padded(rows: Sequence[Sequence[int]], fill_K: np.ndarray) -> np.ndarray:
    """(n, K) rows of at most K numbers; behind a row's end stands what `fill_K` has there."""
    lengths_n = np.fromiter(map(len, rows), np.int64, len(rows))
    table_nK = np.tile(fill_K, (len(rows), 1))
    inside_nK = np.arange(len(fill_K)) < lengths_n[:, None]
    table_nK[inside_nK] = np.fromiter(chain.from_iterable(rows), fill_K.dtype, int(lengths_n.sum()))
    return table_nK
