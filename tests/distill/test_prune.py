"""Leaving out layers."""

import shop
import torch

from gr2.distill.prune import least_missed, without_layer
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_writing, rank_in_one_pass
from gr2.types import Split

SLATES = shop.slates(4, Split.TEST)


def idle(layer):
    """A layer that adds nothing to what runs past it."""
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


def test_without_an_idle_layer_nothing_changes():
    model = shop.checkpoint().model
    idle(model.model.layers[0])
    tokens = torch.tensor([[5, 7, 9]])
    smaller = without_layer(model, 0)
    assert torch.equal(smaller(tokens).logits, model(tokens).logits)
    assert (len(model.model.layers), len(smaller.model.layers)) == (2, 1)
    assert model.num_parameters() - smaller.num_parameters() == sum(
        p.numel() for p in model.model.layers[0].parameters()
    )


def test_the_layer_that_is_missed_least_goes():
    checkpoint = shop.checkpoint()
    idle(checkpoint.model.model.layers[1])
    whole = checkpoint.model(torch.tensor([[5, 7, 9]])).logits.detach()

    def harm(one):
        return (one.model(torch.tensor([[5, 7, 9]])).logits - whole).abs().sum().item()

    smaller, harms = least_missed(checkpoint, harm)
    assert harms[1] == 0 < harms[0]
    kept = smaller.model.model.layers[0].mlp.down_proj.weight
    assert torch.equal(kept, checkpoint.model.model.layers[0].mlp.down_proj.weight)


def test_a_pruned_model_writes_and_comes_back_from_disk(tmp_path):
    """Writing uses the cache, whose places are numbered by layer."""
    checkpoint = shop.checkpoint()
    smaller = checkpoint.with_model(without_layer(checkpoint.model, 0))
    budget = Budget(thought=3)
    written = rank_by_writing(smaller, SLATES, constrained=True, budget=budget, label=None)
    smaller.save(tmp_path)
    back = Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids())
    assert rank_by_writing(back, SLATES, constrained=True, budget=budget, label=None) == written
    at_once = [rank_in_one_pass(one, SLATES, batch_size=4, label=None) for one in (smaller, back)]
    assert at_once[0] == at_once[1]
