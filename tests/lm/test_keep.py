"""What fine-tuning keeps of the states of histories."""

import pytest
import shop
import torch

from gr2.lm.checkpoint import Checkpoint
from gr2.lm.item_head import head_of
from gr2.lm.keep import WEIGHT, change, keeper
from gr2.lm.rank import scores_at_once, voices_at_once
from gr2.lm.train import FitConfig, fit
from gr2.types import Split

SLATES = shop.slates(40, Split.TRAIN)


def test_change_by_hand():
    was = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]])
    now = torch.tensor([[[3.0, 1.0], [0.0, 2.0], [0.0, 0.0]]])
    assert change(was, now, torch.tensor([[True, True, False]])).item() == pytest.approx((1 + 4) / (9 + 16))


def test_without_an_item_head_there_is_nothing_to_keep():
    checkpoint = shop.checkpoint()
    cost = keeper(checkpoint)
    checkpoint.model.get_input_embeddings().weight.data += 1
    assert cost(SLATES[:2]).item() == 0


def test_it_costs_what_has_changed():
    checkpoint = shop.checkpoint_with_head()
    cost = keeper(checkpoint)
    assert cost(SLATES[:2]).item() == pytest.approx(0, abs=1e-6)
    checkpoint.model.model.norm.weight.data *= 2  # doubles every state: the difference is the state
    assert cost(SLATES[:2]).item() == pytest.approx(WEIGHT, rel=1e-4)


def trained(tmp_path, keep: bool) -> tuple[float, float]:
    """How far the head's scores have moved, and how much likelier the targets are, after learning to name them."""
    checkpoint = shop.checkpoint_with_head()
    cost = keeper(checkpoint)
    with torch.no_grad():
        words, _, items, _ = voices_at_once(checkpoint, SLATES).unbind(-1)
    targets = torch.tensor([s.target for s in SLATES])

    def loss_of(step: int) -> torch.Tensor:
        wrong = torch.nn.functional.cross_entropy(scores_at_once(checkpoint, SLATES), targets)
        return wrong + cost(SLATES) if keep else wrong

    config = FitConfig(steps=60, batch_size=40, learning_rate=3e-3, warmup_steps=5)
    fit(checkpoint.model, lambda step: step, loss_of, config, shop.work(tmp_path), phase="x", seed=0)
    with torch.no_grad():
        words_now, _, items_now, _ = voices_at_once(checkpoint, SLATES).unbind(-1)
    gained = (words_now.log_softmax(-1) - words.log_softmax(-1)).gather(1, targets[:, None]).mean()
    return (items_now - items).square().mean().item() / items.var().item(), gained.item()


def test_a_model_learns_to_rank_and_keeps_what_it_made_of_histories(tmp_path):
    moved, gained = trained(tmp_path / "kept", keep=True)
    moved_freely, gained_freely = trained(tmp_path / "free", keep=False)
    assert moved < 0.2 * moved_freely
    assert gained > 0.5 * gained_freely > 0.3


def test_a_head_that_is_read_back_stays_as_it_is(tmp_path):
    shop.checkpoint_with_head().save(tmp_path)
    head = head_of(Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids()).model)
    assert head is not None
    assert not head.embed.requires_grad
