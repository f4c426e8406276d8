"""What the clicks of a batch are worth to a policy loss: as they are, or debiased where slates were logged. (ours)

A click at a place that is seldom looked at stands for many that nobody could make. Within a slate NDCG sees that in the
gains; of a slate with one click it is 1 for finding it, whatever it weighs, so the slate's loss has a weight too.

Shapes: B slates, K candidates.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gr2.errors import UserError
from gr2.evaluate.propensity import Examination, chances, slate_weights, weighted_gains
from gr2.types import Slate

Worth = Callable[[Sequence[Slate]], tuple[Tensor, Tensor]]
"""A batch -> (B, K) gains and (B, 1) weights of the slates' losses."""


def as_they_are(batch: Sequence[Slate]) -> tuple[Tensor, Tensor]:
    """All clicks, and all slates, weigh alike."""
    return torch.tensor([s.gains for s in batch]), torch.ones(len(batch), 1)


def worth_of(slates: Sequence[Slate], examination: Examination | None, clip: float | None, table: str) -> Worth:
    """`debiased` where the config names a clip, else `as_they_are`."""
    return as_they_are if clip is None else debiased(slates, examination, clip, table)


def debiased(slates: Sequence[Slate], examination: Examination | None, clip: float, table: str) -> Worth:
    """Clicks weigh 1 / the chance that their place is looked at, at most `clip`; the slates' weights have mean 1.

    `slates` holds all that will be asked for, as they were shown. Raises UserError as `known_chances` does.
    """
    theta_K = known_chances(examination, table)
    weight_of = weights_by_id(slates, theta_K, clip)

    def worth(batch: Sequence[Slate]) -> tuple[Tensor, Tensor]:
        gains_BK = torch.tensor([weighted_gains(s.gains, theta_K, clip) for s in batch])
        return gains_BK, torch.tensor([[weight_of[s.slate_id]] for s in batch])

    return worth


def weights_by_id(slates: Sequence[Slate], theta_K: np.ndarray, clip: float) -> dict[str, float]:
    """Slate id -> weight of its loss; their mean is 1."""
    return dict(zip((s.slate_id for s in slates), slate_weights(slates, theta_K, clip).tolist(), strict=True))


def known_chances(examination: Examination | None, table: str) -> np.ndarray:
    """(K,) that each place is looked at. Raises UserError, naming the config's table, where they are not known."""
    theta_K = chances(examination)
    if theta_K is None:
        why = examination.source if examination else "the slates were not logged"
        raise UserError(f"[{table}] click_clip: no chances of places to weigh clicks by ({why}); leave click_clip out")
    return theta_K
