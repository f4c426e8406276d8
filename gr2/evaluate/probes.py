"""How a ranker came to its rankings: is it re-ranking, or echoing, or leaning on position? (ours)

Rankings are of the slates as stored, so position 0 is what the pre-ranker put first. Every probe is a number of each
slate, so that it has an interval like a metric.

Shapes: n slates, K candidates of the longest.
"""

from collections.abc import Sequence

import numpy as np

from gr2.evaluate.answers import is_repaired
from gr2.evaluate.arrays import gains_of, orders_of, sizes_of
from gr2.reward.truth import Truth
from gr2.types import AnswerStatus, Ranking, Slate

HEAD = 3
"""Places that count as the head of a slate for `tail_only`."""
TRUTHS = {"truth": "total", "truth_likes": "likes", "truth_next": "next", "truth_reason": "reason"}
"""Probe -> part of a thought's truth."""


def of_each(slates: Sequence[Slate], rankings: Sequence[Ranking]) -> dict[str, np.ndarray]:
    """Probe -> (n,) values; `rankings` in the order of `slates`."""
    sizes_n = sizes_of(slates)
    orders_nK = orders_of(rankings, sizes_n)
    echo_n, tail_n = echo(orders_nK), tail_only(orders_nK)
    return {
        "echo_share": echo_n.astype(float),
        "tail_only_share": tail_n.astype(float),
        "tau_to_incoming": tau(np.tile(np.arange(orders_nK.shape[1]), (len(orders_nK), 1)), orders_nK, sizes_n),
        "first_stays_share": (orders_nK[:, 0] == 0).astype(float),
        "tail_swap_profit": tail_profit(gains_of(slates), orders_nK),
        "invalid_share": np.array([r.status is not AnswerStatus.VALID for r in rankings], float),
        "repaired_share": np.array([is_repaired(r) for r in rankings], float),
        "tied_share": np.array([r.tied > 0 for r in rankings], float),
    }


def echo(orders_nK: np.ndarray) -> np.ndarray:
    """(n,) whether the ranking is the incoming order."""
    return (orders_nK == np.arange(orders_nK.shape[1])).all(axis=1)


def tail_only(orders_nK: np.ndarray) -> np.ndarray:
    """(n,) whether it keeps the first HEAD places and moves only what is below: P2's hack, an echo in disguise."""
    return (orders_nK[:, :HEAD] == np.arange(orders_nK.shape[1])[:HEAD]).all(axis=1) & ~echo(orders_nK)


def tau(ours_nK: np.ndarray, theirs_nK: np.ndarray, sizes_n: np.ndarray) -> np.ndarray:
    """(n,) Kendall's tau of two rankings: 1 equal, 0 unrelated, -1 reversed; 1 for a slate of one candidate."""
    seen_nK = np.take_along_axis(np.argsort(ours_nK, axis=1), theirs_nK, axis=1)
    turned_n = sum((seen_nK[:, [i]] > seen_nK[:, i + 1 :]).sum(axis=1) for i in range(seen_nK.shape[1]))
    pairs_n = sizes_n * (sizes_n - 1) / 2
    return np.asarray(1 - 2 * turned_n / np.maximum(pairs_n, 1))


def tail_profit(gains_nK: np.ndarray, orders_nK: np.ndarray) -> np.ndarray:
    """(n,) what P2's Eq. 7 (with NDCG) pays a tail-only ranking beyond what it pays an echo; 0 for all other rankings.

    An echo of an imperfect order earns nothing, the same order with two tail items swapped its whole inherited NDCG: a
    ranker that has found this out has a profit near the NDCG of the incoming order.
    """
    worth_nK = np.exp2(gains_nK) - 1
    discount_K = 1 / np.log2(np.arange(worth_nK.shape[1]) + 2)
    ideal_n = -np.sort(-worth_nK, axis=1) @ discount_K
    ndcg_n = np.take_along_axis(worth_nK, orders_nK, axis=1) @ discount_K / ideal_n
    perfect_n = worth_nK @ discount_K / ideal_n > 1 - 1e-9
    return np.where(tail_only(orders_nK), ndcg_n - perfect_n, 0.0)


def shuffle_agreement(rankings: Sequence[Ranking], shuffled: Sequence[Ranking]) -> dict[str, np.ndarray]:
    """Do answers survive when the same slates are shown in another order? Probe -> (n,) values.

    Both name candidates by their stored positions; `shuffled` ranks every slate of `rankings`. `shuffle_same_first` is
    whether the first item is the same, `shuffle_tau` Kendall's tau between the two rankings.
    """
    other = {r.slate_id: r for r in shuffled}
    sizes_n = np.array([len(r.order) for r in rankings])
    ours_nK, theirs_nK = (orders_of(rs, sizes_n) for rs in (rankings, [other[r.slate_id] for r in rankings]))
    return {
        "shuffle_same_first": (ours_nK[:, 0] == theirs_nK[:, 0]).astype(float),
        "shuffle_tau": tau(ours_nK, theirs_nK, sizes_n),
    }


def true_parts(truths: Sequence[Truth]) -> dict[str, np.ndarray]:
    """How much of the thoughts is true, and of each of their steps. Probe -> (n,) values."""
    return {probe: np.array([getattr(truth, part) for truth in truths]) for probe, part in TRUTHS.items()}


def moves(rankings: Sequence[Ranking]) -> np.ndarray:
    """(K, K) counts: [from incoming position, to position]. Its first column says where the answers come from."""
    k = max(len(r.order) for r in rankings)
    counts = np.zeros((k, k), dtype=np.int64)
    for r in rankings:
        counts[list(r.order), range(len(r.order))] += 1
    return counts


def first_from(rankings: Sequence[Ranking]) -> list[float]:
    """Share of rankings whose first item came in at each of the K positions."""
    return _shares([r.order[0] for r in rankings], max(len(r.order) for r in rankings))


def target_at(slates: Sequence[Slate]) -> list[float]:
    """Share of slates whose target came in at each of the K positions."""
    return _shares([s.target for s in slates], max(len(s.candidates) for s in slates))


def _shares(positions: Sequence[int], k: int) -> list[float]:
    return [float(share) for share in np.bincount(positions, minlength=k) / len(positions)]
