"""P2's reward: what the ranking is worth, but for the incoming order handed back unimproved.

    Eq. 7: R = alpha R_fmt             if the answer is the incoming order and that order is not perfect
           R = R_rank + alpha R_fmt    otherwise

with R_rank = R_AUC or R_NDCG. The gate: an answer that is not a valid permutation has no rank reward; it costs
`INVALID`, as in every form here (P3: -1). Eq. 7 sees the exact identity only: the incoming order with two candidates
of its tail swapped is paid all that it inherits (docs/rewards.md).
"""

from collections.abc import Callable, Sequence

from gr2.reward.conditional import ALPHA, INVALID
from gr2.types import Answer, AnswerStatus, Reward, Slate

Metric = Callable[[Sequence[int], Sequence[int]], float]
"""(order, gains) -> at most 1, which is perfect."""


def reward_unless_echo(answer: Answer, slate: Slate, *, metric: Metric, alpha: float = ALPHA) -> Reward:
    """The reward of one answer, with its parts; `rank` is what `metric` says, also where Eq. 7 withholds it.

    Raises ValueError for a slate of which `metric` cannot say anything (P2 drops those).
    """
    if answer.status is not AnswerStatus.VALID:
        return Reward(total=INVALID, rank=0.0, format=0.0)
    rank = metric(answer.order, slate.gains)
    echo = answer.order == tuple(range(len(slate.candidates)))
    withheld = echo and rank < 1 - 1e-9
    return Reward(total=alpha if withheld else rank + alpha, rank=rank, format=1.0)
