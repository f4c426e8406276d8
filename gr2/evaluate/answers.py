"""What any ranker answered -> Rankings: what is wrong with an answer gets a name and is counted, never mended unseen.

The fallback is the one of types.Ranking: an answer that is no order of the slate's candidates keeps its status, and
the slate its incoming order. Equal scores are an answer: the incoming order decides among them, and they are counted.
(ours)
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from gr2.errors import UserError
from gr2.types import AnswerStatus, Ranking, Slate


def from_order(slate: Slate, order: Sequence[int] | None) -> Ranking:
    """The ranking that `order` (candidate positions, best first) is; None is a slate that was never answered."""
    incoming = tuple(range(len(slate.candidates)))
    status = AnswerStatus.UNANSWERED if order is None else _status(order, len(incoming))
    kept = tuple(order) if order is not None and status is AnswerStatus.VALID else incoming
    return Ranking(slate_id=slate.slate_id, order=kept, status=status)


def from_items(slate: Slate, items: Sequence[str] | None) -> Ranking:
    """As `from_order`, from item ids."""
    at = {item: position for position, item in enumerate(slate.candidates)}
    return from_order(slate, None if items is None else [at.get(item, -1) for item in items])


def from_scores(slate: Slate, scores: Sequence[float] | np.ndarray | None) -> Ranking:
    """By one score a candidate (in incoming order), highest first. Infinite scores are scores; NaN is none."""
    if scores is None:
        return from_order(slate, None)
    values_K = np.asarray(scores, dtype=float)
    if len(values_K) != len(slate.candidates):
        few = len(values_K) < len(slate.candidates)
        return _fallback(slate, AnswerStatus.PARTIAL if few else AnswerStatus.UNKNOWN_ITEM)
    if np.isnan(values_K).any():
        return _fallback(slate, AnswerStatus.NAN_SCORE)
    _, sizes = np.unique(values_K, return_counts=True)
    order = tuple(np.argsort(-values_K, kind="stable").tolist())
    return Ranking(slate_id=slate.slate_id, order=order, tied=int(sizes[sizes > 1].sum()))


def settle(slates: Sequence[Slate], orders: Mapping[str, Sequence[int]]) -> list[Ranking]:
    """A ranking of every slate from slate id -> candidate positions, best first.

    Raises UserError when a slate is answered that was not asked.
    """
    unasked = orders.keys() - {s.slate_id for s in slates}
    if unasked:
        raise UserError(f"slate {min(unasked)}: answered, but not among the slates that were asked; leave it out")
    return [from_order(s, orders.get(s.slate_id)) for s in slates]


def counts(rankings: Sequence[Ranking]) -> dict[str, int]:
    """Answers by status; beside it `tied` (the incoming order decided among equals) and `repaired`.

    `repaired`: not valid, and yet not the incoming order. Somebody mended it, against the rule.
    """
    statuses = Counter(r.status.value for r in rankings)
    return dict(sorted(statuses.items())) | {
        "tied": sum(r.tied > 0 for r in rankings),
        "repaired": sum(is_repaired(r) for r in rankings),
    }


def is_repaired(ranking: Ranking) -> bool:
    """Not valid, and yet not the incoming order."""
    return ranking.status is not AnswerStatus.VALID and ranking.order != tuple(range(len(ranking.order)))


def _status(order: Sequence[int], k: int) -> AnswerStatus:
    if not all(0 <= candidate < k for candidate in order):
        return AnswerStatus.UNKNOWN_ITEM
    if len(set(order)) < len(order):
        return AnswerStatus.DUPLICATE
    return AnswerStatus.VALID if len(order) == k else AnswerStatus.PARTIAL


def _fallback(slate: Slate, status: AnswerStatus) -> Ranking:
    return Ranking(slate_id=slate.slate_id, order=tuple(range(len(slate.candidates))), status=status)
