from dataclasses import replace

import numpy as np
import pytest
import torch
from ranked import products

from gr2.advice.network import MAX_ROUNDS, Scale, list_loss
from gr2.baselines import dcn, prm

METHODS = pytest.mark.parametrize("method", [dcn.METHOD, prm.METHOD], ids=lambda m: m.name)


def test_the_loss_by_hand():
    """Gains 1 and 2 share the target as 1 : 3; padding is out of the softmax; no positive, no loss."""
    scores = torch.tensor([[1.0, 0.0, 2.0, 50.0], [1.0, 2.0, 3.0, 4.0]])
    gains = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    real = torch.tensor([[True, True, True, False], [True, True, True, True]])
    total = np.log(np.exp(1) + np.exp(0) + np.exp(2))
    expected = 1 / 4 * (total - 1) + 3 / 4 * (total - 0)
    assert list_loss(scores, gains, real, torch.ones(2)).item() == pytest.approx(expected)
    assert list_loss(scores, gains, real, torch.tensor([3.0, 9.0])).item() == pytest.approx(3 * expected)


def test_scaling_by_hand():
    """Over the real candidates 1, 3 and one unknown: mean 2, deviation 1."""
    made = products(2, seed=0)
    real = np.zeros((2, 5), dtype=bool)
    real[0, :3] = True
    x = np.full((2, 5, 2), 9.0, dtype=np.float32)
    x[0, :3, 0] = 1, 3, np.nan
    made = replace(made, x_SKF=x, real_SK=real)
    scaled = Scale.of(made).arrays(made).x
    assert scaled[0, :, 0].tolist() == pytest.approx([-np.log(1 + 1), np.log(1 + 1), 0, 0, 0], abs=1e-5)
    assert not scaled[1].any()


@METHODS
def test_a_seed_gives_one_model_whatever_was_drawn_before(method):
    train, point = products(300, seed=0), method.grid[-1]
    first = method.fit(train, point, 5, 1).scores(train)
    torch.rand(3)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(method.fit(train, point, 5, 1).scores(train), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(method.fit(train, point, 6, 1).scores(train), first)


@METHODS
def test_as_many_rounds_without_held_out_slates_give_the_same_network(method):
    train, point = products(300, seed=0), method.grid[-1]
    fitted = method.fit(train, point, 0, products(100, seed=1))
    assert 1 <= fitted.rounds <= MAX_ROUNDS
    np.testing.assert_array_equal(method.fit(train, point, 0, fitted.rounds).scores(train), fitted.scores(train))


@METHODS
def test_an_unknown_feature_is_no_nan_score(method):
    made = products(300, seed=0)
    made.x_SKF[0, 0, 0] = np.nan
    assert np.isfinite(method.fit(made, method.grid[0], 0, 1).scores(made)).all()
