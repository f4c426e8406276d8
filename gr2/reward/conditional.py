"""P1's conditional verifiable reward: format pays only where the ranking does.

    R = R_rank + alpha R_fmt   if R_rank > 0, or the target came first and stays first
    R = R_rank                 otherwise                                   (P1 §4; "stays first" is P3's mend)

An answer that is not a valid permutation earns `INVALID` and no format reward (P3: -1).
Without the condition, echoing the incoming order earns alpha on every slate; with it, echo earns alpha
only where the target already came first, which no other policy can beat there.
"""

from gr2.reward.scores import promotion
from gr2.types import Answer, AnswerStatus, Reward, Slate

ALPHA = 0.2
INVALID = -1.0


def conditional_reward(answer: Answer, slate: Slate, *, alpha: float = ALPHA) -> Reward:
    """The reward of one answer, with its parts. `alpha` is the worth of a well-formed answer (P3: 0.2)."""
    if answer.status is not AnswerStatus.VALID:
        return Reward(total=INVALID, rank=0.0, format=0.0)
    rank = promotion(answer.order, slate.target)
    stays_first = slate.target == 0 and answer.order[0] == 0
    paid = alpha if rank > 0 or stays_first else 0.0
    return Reward(total=rank + paid, rank=rank, format=1.0)
