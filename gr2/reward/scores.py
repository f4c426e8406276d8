"""What a ranking is worth: pure functions from a ranking and the slate's gains to a number.

`order` is a permutation of range(K), best first; `gains` has one value a candidate (0 none, 1 click, 2
click and conversion); candidate 0 is the one the pre-ranker put first.
"""

from collections.abc import Sequence
from math import log2


def rank_of(order: Sequence[int], candidate: int) -> int:
    """1-based rank of a candidate. Raises ValueError when the ranking lacks it."""
    return list(order).index(candidate) + 1


def promotion(order: Sequence[int], target: int) -> float:
    """(rank before - rank after) / K, in (-1, 1): how far the target moved up (P1, R_rank)."""
    return (target + 1 - rank_of(order, target)) / len(order)


def auc(order: Sequence[int], gains: Sequence[int]) -> float:
    """Share of (positive, negative) pairs in the right order (P2, R_AUC).

    Raises ValueError for a slate without a positive or without a negative: it has no pair.
    """
    positives = [c for c, g in enumerate(gains) if g > 0]
    negatives = [c for c, g in enumerate(gains) if g == 0]
    if not positives or not negatives:
        raise ValueError("AUC needs a positive and a negative")
    ranks = {c: r for r, c in enumerate(order)}
    right = sum(ranks[p] < ranks[n] for p in positives for n in negatives)
    return right / (len(positives) * len(negatives))


def ndcg(order: Sequence[int], gains: Sequence[int]) -> float:
    """Sum of (2^g - 1) / log2(rank + 1) over its largest possible value (P2, R_NDCG).

    Raises ValueError for a slate without a positive.
    """

    def dcg(values: Sequence[int]) -> float:
        return sum((2**g - 1) / log2(rank + 1) for rank, g in enumerate(values, 1))

    if not any(gains):
        raise ValueError("NDCG needs a positive")
    return dcg([gains[c] for c in order]) / dcg(sorted(gains, reverse=True))
