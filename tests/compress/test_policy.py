"""Probabilities, budgets and features by hand."""

from itertools import permutations
from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gr2.compress.context import Limits
from gr2.compress.policy import Catalogue, Scorer, draw, features, highest, log_prob

UNIT = Catalogue(vectors=torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]), popularity=torch.tensor([1.0, 0.0, -1.0]))


def scores(*weights: float) -> torch.Tensor:
    return torch.tensor(weights).log()


def test_log_probability_by_hand():
    orders = torch.tensor([[2, 0, 1], [0, 1, 2]])
    expected = [log(5 / 10 * 2 / 5), log(2 / 10 * 3 / 8)]
    assert log_prob(scores(2, 3, 5), orders, 2).tolist() == pytest.approx(expected)
    assert log_prob(scores(2, 3, 5), orders, 1).tolist() == pytest.approx([log(5 / 10), log(2 / 10)])


def test_all_draws_of_two_together_are_certain():
    orders = torch.tensor([[*pair, *({0, 1, 2, 3} - set(pair))] for pair in permutations(range(4), 2)])
    assert log_prob(scores(1, 9, 3, 5), orders, 2).exp().sum().item() == pytest.approx(1.0)


def test_the_gradient_of_the_first_taken_is_one_less_its_chance():
    of = scores(1, 3).requires_grad_()
    log_prob(of, torch.tensor([[0, 1]]), 1).sum().backward()
    assert of.grad.tolist() == pytest.approx([0.75, -0.75])


def test_draws_take_each_event_first_with_its_chance():
    torch.manual_seed(0)
    first = draw(scores(1, 9), 4000)[:, 0]
    assert (first == 1).float().mean().item() == pytest.approx(0.9, abs=0.02)


def test_the_highest_are_kept_and_of_equals_the_newer():
    assert highest(scores(9, 1, 3, 8), 2) == [0, 3]
    assert highest(scores(9, 1, 3, 8), 4) == [0, 1, 2, 3]
    assert highest(scores(5, 5, 5, 5), 2) == [2, 3]


@given(st.integers(1, 500))
def test_a_budget_is_under_the_share_or_the_least(events):
    limits = Limits(newest=120, share=0.2, at_least=5)
    budget = limits.budget(events)
    assert 1 <= budget <= events
    assert budget < 0.2 * events or budget == min(5, events)


def test_features_by_hand():
    found = features(UNIT, [0, 1, 2], newest=4)
    root = lambda x, y: (x**2 + y**2) ** 0.5  # noqa: E731
    mean = [1.6 / root(1.6, 1.8), 1.8 / root(1.6, 1.8)]
    like = [mean[0], mean[1], 0.6 * mean[0] + 0.8 * mean[1]]
    expected = [
        [2 / 4, log(3) / log(5), 1.0, like[0], like[0], 0.6],
        [1 / 4, log(2) / log(5), 0.0, like[1], like[1], 0.8],
        [0.0, 0.0, -1.0, like[2], like[2], 0.0],
    ]
    for row, wanted in zip(found.tolist(), expected, strict=True):
        assert row == pytest.approx(wanted)


def test_before_training_all_events_are_alike():
    assert Scorer()(features(UNIT, [2, 0, 1, 1], newest=4)).tolist() == [0, 0, 0, 0]


def test_a_catalogue_is_centred():
    counts = torch.tensor([round(exp(2) - 1), 0])
    made = Catalogue.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), counts)
    assert made.vectors.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert made.popularity.sum().item() == pytest.approx(0, abs=1e-6)
