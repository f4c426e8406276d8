"""What a ranking adds to the order that came in (ours).

    R = NDCG(after) - NDCG(before)    for a valid permutation; INVALID otherwise

Nothing is inherited, so there is nothing to win by keeping it: on slates whose target stands at every place alike,
whatever looks at places alone earns exactly 0. There is no alpha: paid to every valid answer it would be the same for
all of them, and paid on conditions it would make the smallest step up worth a large one.
"""

from gr2.reward.conditional import INVALID
from gr2.reward.scores import ndcg
from gr2.types import Answer, AnswerStatus, Reward, Slate


def gain_reward(answer: Answer, slate: Slate) -> Reward:
    """The reward of one answer, with its parts. Raises ValueError for a slate without a positive."""
    if answer.status is not AnswerStatus.VALID:
        return Reward(total=INVALID, rank=0.0, format=0.0)
    gain = ndcg(answer.order, slate.gains) - ndcg(range(len(slate.candidates)), slate.gains)
    return Reward(total=gain, rank=gain, format=1.0)
