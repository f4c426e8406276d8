"""P2's Eq. 7, our gain form and the overlong price, by hand."""

from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_slates import IDENTITY, INVALID_STATUSES, K, invalid, slate_of, valid, with_target
from trl.rewards import get_soft_overlong_punishment

from gr2.reward.conditional import conditional_reward
from gr2.reward.forms import FORM_NAMES, can_teach, reward_form
from gr2.reward.overlong import overlong
from gr2.types import Reward


def paid(name, order, slate, alpha=0.2) -> Reward:
    return reward_form(name, alpha)(valid(*order), slate)


def test_eq7_by_hand():
    # the target came in third of five; 4 pairs: echo has it above 2 of 4 negatives
    slate = with_target(2)
    assert paid("auc", IDENTITY, slate) == Reward(total=0.2, rank=2 / 4, format=1.0)
    assert paid("ndcg", IDENTITY, slate) == Reward(total=0.2, rank=1 / log2(4), format=1.0)
    assert paid("auc", (0, 2, 1, 3, 4), slate).total == pytest.approx(3 / 4 + 0.2)
    assert paid("ndcg", (0, 2, 1, 3, 4), slate).total == pytest.approx(1 / log2(3) + 0.2)
    assert paid("ndcg", (2, 0, 1, 3, 4), slate, alpha=0.5).total == 1.5


def test_eq7_pays_an_echo_that_cannot_be_bettered():
    assert paid("auc", IDENTITY, with_target(0)).total == 1.2
    assert paid("ndcg", IDENTITY, slate_of((2, 1, 0, 0, 0))).total == 1.2
    assert paid("ndcg", IDENTITY, slate_of((1, 2, 0, 0, 0))).total == 0.2
    assert paid("auc", IDENTITY, slate_of((1, 2, 0, 0, 0))).total == 1.2  # to AUC all positives are alike


def test_eq7_lets_the_swapped_tail_inherit():
    assert paid("auc", (0, 1, 2, 4, 3), with_target(1)).total == pytest.approx(3 / 4 + 0.2)


def test_gain_by_hand():
    slate = slate_of((0, 1, 0, 2, 0))
    before, ideal = 1 / log2(3) + 3 / log2(5), 3 + 1 / log2(3)
    after = 3 + 1 / log2(4)
    assert paid("gain", (3, 0, 1, 2, 4), slate).total == pytest.approx((after - before) / ideal)
    assert paid("gain", IDENTITY, slate).total == 0
    assert paid("gain", (0, 1, 2, 4, 3), with_target(1)).total == 0


@settings(deadline=None)
@given(st.permutations(range(6)))
def test_gain_pays_a_blind_order_nothing(order):
    """Over targets at every place, any fixed order earns 0 but for rounding; Eq. 7 and P1 have no such property."""
    assert sum(paid("gain", order, with_target(t, 6)).total for t in range(6)) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(st.permutations(range(K)), st.lists(st.integers(0, 2), min_size=K, max_size=K))
def test_no_order_is_paid_more_than_the_oracles(order, gains):
    slate = slate_of(gains)
    if can_teach(slate):
        best = sorted(range(K), key=lambda c: -gains[c])
        for name in ("auc", "ndcg", "gain"):
            assert paid(name, order, slate).total <= paid(name, best, slate).total + 1e-9


@pytest.mark.parametrize("status", INVALID_STATUSES)
@pytest.mark.parametrize("name", FORM_NAMES)
def test_anything_invalid_costs_in_every_form(name, status):
    assert reward_form(name, 0.2)(invalid(status), with_target(1)) == Reward(total=-1.0, rank=0.0, format=0.0)


def test_the_conditional_form_is_p1s():
    answer, slate = valid(2, 0, 1, 3, 4), with_target(2)
    assert reward_form("conditional", 0.3)(answer, slate) == conditional_reward(answer, slate, alpha=0.3)


def test_slates_without_a_better_candidate_teach_nothing():
    assert [can_teach(slate_of(g)) for g in ((0, 0), (1, 2), (0, 1))] == [False, False, True]


@pytest.mark.parametrize(("tokens", "costs"), [(1, 0), (16, 0), (17, -0.25), (18, -0.5), (20, -1), (30, -1)])
def test_overlong_by_hand_and_as_in_trl(tokens, costs):
    trl = get_soft_overlong_punishment(max_completion_len=20, soft_punish_cache=4)
    assert overlong(tokens, longest=20, soft=4) == costs == trl([[0] * tokens])[0]
    assert overlong(tokens, longest=20, soft=0) == 0
