from itertools import permutations
from math import exp, log

import pytest
import torch

from gr2.rl.advantage import group_advantages, informative
from gr2.rl.plackett_luce import log_prob, sample_orders


def test_log_prob_by_hand():
    scores = torch.tensor([[0.0, log(2), log(3)]])
    # weights 1, 2, 3: P(2, 0, 1) = 3/6 * 1/3 * 2/2
    assert log_prob(scores, torch.tensor([[[2, 0, 1]]])).item() == pytest.approx(log(3 / 6 * 1 / 3))


def test_probabilities_of_all_orders_sum_to_one():
    scores = torch.tensor([[0.3, -1.0, 2.0, 0.0]])
    orders = torch.tensor([list(permutations(range(4)))])
    assert log_prob(scores, orders).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_samples_follow_the_probabilities():
    scores = torch.tensor([[0.0, 1.0, -1.0]])
    drawn = sample_orders(scores, 20_000, torch.Generator().manual_seed(0))
    weights = [exp(0), exp(1), exp(-1)]
    for c in range(3):
        share = (drawn[0, :, 0] == c).float().mean().item()
        assert share == pytest.approx(weights[c] / sum(weights), abs=0.015)
    assert (drawn.sort(-1).values == torch.arange(3)).all()


def test_advantages_of_a_group():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]])
    # mean 1/2, sample standard deviation sqrt(4 * 1/4 / 3)
    expected = 0.5 / ((1 / 3) ** 0.5 + 1e-4)
    assert group_advantages(rewards)[0].tolist() == pytest.approx([expected, -expected, -expected, expected])
    assert group_advantages(rewards)[1].tolist() == [0, 0, 0, 0]
    assert informative(rewards).tolist() == [True, False]
