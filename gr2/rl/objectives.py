"""DAPO and its neighbours: what each makes of advantages and probability ratios, in TRL's words.

With A the advantage of a rollout, r_t its tokens' ratio to the policy that wrote them, |o| its length:

    dapo      -sum min(r_t A, clip(r_t) A) / all tokens of the batch       A over the group's deviation    (DAPO Eq. 8)
    grpo      mean over rollouts of the same / |o|                         A over the group's deviation    (GRPO Eq. 3)
    dr_grpo   the same sum / (rollouts x longest allowed)                  A not divided                   (Dr. GRPO)
    gspo      grpo with one ratio a rollout, the geometric mean of r_t     A over the group's deviation    (GSPO Eq. 5)
    cispo     -sum stopgrad(min(r_t, high)) A log p_t / all tokens         A over the group's deviation    (MiniMax-M1)

While every batch of rollouts is used for one update, all ratios are 1 and no clip is ever reached.
"""

from dataclasses import dataclass
from typing import Literal

Algorithm = Literal["dapo", "grpo", "dr_grpo", "gspo", "cispo"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Settings of TRL's GRPOConfig."""

    loss_type: str
    importance_sampling_level: str = "token"
    scale_rewards: str = "group"
    epsilon: float = 0.2
    """Lower clip; unused by cispo."""
    epsilon_high: float
    """Upper clip; of cispo the largest ratio itself."""


OBJECTIVES: dict[Algorithm, Objective] = {
    "dapo": Objective(loss_type="dapo", epsilon_high=0.28),
    "grpo": Objective(loss_type="grpo", epsilon_high=0.2),
    "dr_grpo": Objective(loss_type="dr_grpo", scale_rewards="none", epsilon_high=0.2),
    "gspo": Objective(loss_type="grpo", importance_sampling_level="sequence", epsilon=3e-4, epsilon_high=4e-4),
    "cispo": Objective(loss_type="cispo", epsilon_high=5.0),
}
"""With the clips of their papers (cispo: ScaleRL)."""
