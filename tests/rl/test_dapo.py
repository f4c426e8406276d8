"""Dynamic sampling: groups that teach nothing are replaced by fresh ones."""

import pytest
import shop
import torch
from datasets import Dataset
from trl import GRPOConfig

from gr2.rl.dapo import DapoTrainer, concatenate, informative_rows, take


def test_informative_rows_are_whole_groups():
    advantages = torch.tensor([0.0, 0.0, 1.0, -1.0, 0.0, 1e-9])
    assert informative_rows(advantages, 2).tolist() == [False, False, True, True, False, False]
    of_tokens = torch.tensor([[0.0, 0.0], [0.0, 1e-9], [0.0, 0.0], [0.5, 0.0]])
    assert informative_rows(of_tokens, 2).tolist() == [False, False, True, True]


def test_concatenate_pads_prompts_left_and_completions_right():
    a = {
        "prompt_ids": torch.tensor([[1, 2]]),
        "completion_ids": torch.tensor([[3]]),
        "completion_mask": torch.tensor([[1]]),
        "advantages": torch.tensor([0.5]),
        "num_items_in_batch": torch.tensor(1),
    }
    b = {
        "prompt_ids": torch.tensor([[4]]),
        "completion_ids": torch.tensor([[5, 6]]),
        "completion_mask": torch.tensor([[1, 1]]),
        "advantages": torch.tensor([-0.5]),
        "num_items_in_batch": torch.tensor(2),
    }
    joined = concatenate([a, b], pad_id=9)
    assert joined["prompt_ids"].tolist() == [[1, 2], [9, 4]]
    assert joined["completion_ids"].tolist() == [[3, 9], [5, 6]]
    assert joined["completion_mask"].tolist() == [[1, 0], [1, 1]]
    assert take(joined, torch.tensor([False, True]))["advantages"].tolist() == [-0.5]


def trained(tmp_path, reward, rows, **set_after):
    """The batches of three steps, (4, 4) advantages each."""
    checkpoint = shop.checkpoint()
    seen: list[torch.Tensor] = []

    class Watched(DapoTrainer):
        def _generate_and_score_completions(self, inputs):
            batch = super()._generate_and_score_completions(inputs)
            seen.append(batch["advantages"].view(-1, 4))
            return batch

    trainer = Watched(
        model=checkpoint.model,
        processing_class=checkpoint.tokenizer,
        reward_funcs=[reward],
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=16,
            num_generations=4,
            max_completion_length=4,
            bf16=False,
            activation_checkpointing=False,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
        ),
    )
    for name, value in set_after.items():
        setattr(trainer, name, value)
    trainer.train()
    return seen


PROMPT = "<|history|><s_a_0><s_b_0><think>"


def test_idle_groups_are_replaced(tmp_path):
    """Prompts named `dull` always score alike: the batch that is trained on holds only the others."""

    def reward(completion_ids, dull, **_):
        return [0.0 if d else float(i % 2) for i, d in enumerate(dull)]

    seen = trained(tmp_path, reward, [{"prompt": PROMPT, "dull": i % 2 == 0} for i in range(32)], max_rounds=8)
    assert len(seen) == 3
    for groups in seen:
        assert groups.shape == (4, 4)
        assert (groups.abs().amax(1) > 0).all()


def test_advantages_weigh_what_their_prompt_does(tmp_path):
    """Rewards 0, 1, 0, 1 in every group: advantages of one size but for the weight, which is told too."""
    told: list[float] = []

    def reward(completion_ids, **_):
        return [float(i % 2) for i in range(len(completion_ids))]

    seen = trained(
        tmp_path,
        reward,
        [{"prompt": PROMPT, "weight": 1.0 + 2 * (i % 2)} for i in range(32)],
        weight_of=lambda row: row["weight"],
        on_scored=lambda advantages: told.extend(advantages.tolist()),
    )
    groups = torch.cat(seen)
    torch.testing.assert_close(groups, groups[:, 1:2] * torch.tensor([-1.0, 1.0, -1.0, 1.0]).expand_as(groups))
    sizes = groups[:, 1]
    light, heavy = sizes.min(), sizes.max()
    assert ((sizes == light) | (sizes == heavy)).all()
    assert (heavy / light).item() == pytest.approx(3)
    assert told == groups.flatten().tolist()


def test_tokens_have_advantages_beside_their_rollouts(tmp_path):
    """Rewards 0, 1, 0, 1 in every group; the first token of each rollout earns 3 beside."""

    def credit(width):
        of_tokens = torch.zeros(16, width)
        of_tokens[:, 0] = 3.0
        return of_tokens

    def reward(completion_ids, **_):
        return [float(i % 2) for i in range(len(completion_ids))]

    rows = [{"prompt": PROMPT} for _ in range(32)]
    plain = trained(tmp_path / "plain", reward, rows)[0].flatten()
    seen = trained(tmp_path / "credited", reward, rows, credit=credit, max_rounds=1)[0]
    by_token = seen.reshape(16, -1)
    torch.testing.assert_close(by_token[:, 0], plain + 3.0)
    torch.testing.assert_close(by_token[:, 1:], plain[:, None].expand_as(by_token[:, 1:]))
