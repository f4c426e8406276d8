"""Each algorithm's loss as TRL computes it with our settings, against its paper's formula worked out here."""

from typing import get_args

import pytest
import shop
import torch
from datasets import Dataset

from gr2.rl.dapo import DapoTrainer
from gr2.rl.objectives import OBJECTIVES, Algorithm
from gr2.stages.s08_rl import Config, trl_config

ADVANTAGES = torch.tensor([1.0, -0.5, 2.0, -1.0])
SHIFTS = torch.tensor([[0.5, 0.1, -0.1], [-0.4, -0.1, 0.0], [0.1, 0.0, 0.0], [0.3, -2.0, 0.2]])
"""log p - log p_old of each token."""
MASK = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 0, 0], [1, 1, 0]])
LONGEST = 8


def trainer(folder, algorithm, **keys) -> DapoTrainer:
    checkpoint = shop.checkpoint()
    config = Config(steps=1, prompts=2, rollouts=2, algorithm=algorithm, **keys)
    return DapoTrainer(
        model=checkpoint.model,
        processing_class=checkpoint.tokenizer,
        reward_funcs=[lambda completion_ids, **_: [0.0] * len(completion_ids)],
        train_dataset=Dataset.from_list([{"prompt": "<think>"}] * 4),
        args=trl_config(config, 0, LONGEST, folder),
    )


def loss_and_logps(one: DapoTrainer):
    """TRL's loss of four rollouts whose ratios are exp(SHIFTS), and the log-probabilities of their tokens."""
    torch.manual_seed(0)
    tokens = torch.randint(5, 50, (4, 5))
    mask = torch.cat([torch.ones(4, 2, dtype=torch.long), MASK], dim=1)
    with torch.no_grad():
        logps, _, _ = one._get_per_token_logps_and_entropies(one.model, tokens, mask, 3)
        inputs = {
            "prompt_ids": tokens[:, :2],
            "prompt_mask": mask[:, :2],
            "completion_ids": tokens[:, 2:],
            "completion_mask": MASK,
            "advantages": ADVANTAGES,
            "old_per_token_logps": logps - SHIFTS,
            "num_items_in_batch": MASK.sum(),
        }
        one.current_gradient_accumulation_steps = 1
        return one._compute_loss(one.model, inputs).item(), logps


def clipped(ratio, advantage, low, high):
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def by_hand(algorithm, logps):
    a, n = ADVANTAGES[:, None], MASK.sum(1)
    ratio = SHIFTS.exp()
    geometric = ((SHIFTS * MASK).sum(1) / n).exp()[:, None].expand(4, 3)
    match algorithm:
        case "dapo":
            return (clipped(ratio, a, 0.2, 0.28) * MASK).sum() / MASK.sum()
        case "grpo":
            return ((clipped(ratio, a, 0.2, 0.2) * MASK).sum(1) / n).mean()
        case "dr_grpo":
            return (clipped(ratio, a, 0.2, 0.2) * MASK).sum() / (4 * LONGEST)
        case "gspo":
            return ((clipped(geometric, a, 3e-4, 4e-4) * MASK).sum(1) / n).mean()
        case "cispo":
            return (-ratio.clamp(max=5.0) * a * logps * MASK).sum() / MASK.sum()


@pytest.mark.parametrize("algorithm", get_args(Algorithm))
def test_loss_by_hand(algorithm, tmp_path):
    loss, logps = loss_and_logps(trainer(tmp_path, algorithm))
    assert loss == pytest.approx(by_hand(algorithm, logps).item(), abs=1e-5)


def test_five_losses_differ(tmp_path):
    losses = [loss_and_logps(trainer(tmp_path, algorithm))[0] for algorithm in OBJECTIVES]
    assert len({round(loss, 4) for loss in losses}) == 5


def test_a_clip_of_ones_own(tmp_path):
    """Clip-higher off: DAPO's loss with GRPO's clip."""
    loss, _ = loss_and_logps(trainer(tmp_path, "dapo", epsilon_high=0.2))
    own = clipped(SHIFTS.exp(), ADVANTAGES[:, None], 0.2, 0.2)
    assert loss == pytest.approx(((own * MASK).sum() / MASK.sum()).item(), abs=1e-5)


@pytest.mark.parametrize(("algorithm", "scale"), [("dapo", 1 / (0.5**0.5 + 1e-4)), ("dr_grpo", 1.0)])
def test_only_dr_grpo_leaves_advantages_as_they_are(algorithm, scale, tmp_path):
    """Rewards 1 and 0 in each group of two: centred +-1/2, of standard deviation sqrt(1/2)."""
    one = trainer(tmp_path, algorithm)
    one.reward_funcs[0] = lambda completion_ids, **_: [1.0, 0.0] * (len(completion_ids) // 2)
    one.model.train()
    batch = one._generate_and_score_completions([{"prompt": "<think>"}] * 4)
    assert batch["advantages"].tolist() == pytest.approx([scale / 2, -scale / 2] * 2)


def test_every_setting_reaches_trl(tmp_path):
    keys = {"updates": 2, "mask_truncated": False, "epsilon_low": 0.1, "save_steps": 3}
    args = trainer(tmp_path, "gspo", **keys).args
    assert (args.num_iterations, args.mask_truncated_completions, args.epsilon) == (2, False, 0.1)
    assert (args.epsilon_high, args.importance_sampling_level, args.save_steps) == (4e-4, "sequence", 6)
