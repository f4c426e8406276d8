"""From the rewards of a group of rollouts to advantages."""

from torch import Tensor


def group_advantages(rewards_BG: Tensor) -> Tensor:
    """(B, G): rewards less their group's mean, over its standard deviation (GRPO, DAPO); 0 where all are alike."""
    centred = rewards_BG - rewards_BG.mean(-1, keepdim=True)
    return centred / (rewards_BG.std(-1, keepdim=True) + 1e-4)


def informative(rewards_BG: Tensor, tolerance: float = 1e-6) -> Tensor:
    """(B,) whether a group's rewards differ, so that it teaches something (DAPO's dynamic sampling)."""
    return (rewards_BG.max(-1).values - rewards_BG.min(-1).values) > tolerance
