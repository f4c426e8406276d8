"""The forms of the reward, by the names that a config has for them."""

from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from gr2.reward.conditional import conditional_reward
from gr2.reward.gain import gain_reward
from gr2.reward.scores import auc, ndcg
from gr2.reward.unless_echo import reward_unless_echo
from gr2.types import Answer, Reward, Slate

FormName = Literal["conditional", "auc", "ndcg", "gain"]
FORM_NAMES: tuple[FormName, ...] = get_args(FormName)
Form = Callable[[Answer, Slate], Reward]
"""An answer about a slate, in the slate's own order of candidates -> its reward, with the parts."""


def reward_form(name: FormName, alpha: float) -> Form:
    """`conditional` (P1), `auc` or `ndcg` (P2 Eq. 7), `gain` (ours; alpha has no part in it)."""
    match name:
        case "conditional":
            return partial(conditional_reward, alpha=alpha)
        case "auc":
            return partial(reward_unless_echo, metric=auc, alpha=alpha)
        case "ndcg":
            return partial(reward_unless_echo, metric=ndcg, alpha=alpha)
        case "gain":
            return gain_reward


def can_teach(slate: Slate) -> bool:
    """Whether some candidate is better than another: slates without a positive or a negative are dropped (P2)."""
    return any(slate.gains) and not all(slate.gains)
