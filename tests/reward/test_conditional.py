"""The fixed policies of method §4 against P1's conditional reward: none but the oracle may profit."""

import numpy as np
import pytest

from gr2.reward.conditional import ALPHA, INVALID, conditional_reward
from gr2.types import Answer, AnswerStatus, Slate, Split

K = 10


def slate(target: int) -> Slate:
    return Slate(
        slate_id="u:1",
        user_id="u",
        split=Split.TRAIN,
        time=0,
        history=("h",),
        candidates=tuple(f"c{i}" for i in range(K)),
        scores=tuple(float(-i) for i in range(K)),
        gains=tuple(int(i == target) for i in range(K)),
    )


def total(order, target, status=AnswerStatus.VALID) -> float:
    return conditional_reward(Answer(status=status, order=tuple(order), thought=""), slate(target)).total


def mean(policy) -> float:
    """Mean reward over a target at every position."""
    return float(np.mean([total(policy(t), t) for t in range(K)]))


def echo(_):
    return range(K)


def reverse(_):
    return range(K)[::-1]


def tail_swap(_):
    return [*range(K - 2), K - 1, K - 2]


def oracle(target):
    return [target, *(c for c in range(K) if c != target)]


def test_echo_is_paid_only_where_the_target_came_first():
    assert total(echo(0), 0) == ALPHA
    assert all(total(echo(t), t) == 0 for t in range(1, K))


def test_oracle_by_hand():
    # the target moves up t places of 10, and is always paid for format: mean (0 + ... + 9) / 10 / 10 + 0.2
    assert mean(oracle) == pytest.approx(45 / 100 + ALPHA)


def test_reverse_and_random_do_not_beat_the_oracle_nor_earn_from_rank():
    # promotions of a fixed order cancel out; alpha is paid for the 5 targets that moved up
    assert mean(reverse) == pytest.approx(5 / K * ALPHA)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(K).tolist() for _ in range(2000)]
    values = [total(order, int(rng.integers(K))) for order in orders]
    assert np.mean(values) < ALPHA
    assert mean(oracle) > np.mean(values) + 0.3


def test_tail_swap_earns_less_than_alpha_share_of_one_slate():
    # only the last candidate moves up by one place (0.1 + alpha) and the one before it moves down by one (-0.1)
    assert mean(tail_swap) == pytest.approx((ALPHA + (0.1 + ALPHA) - 0.1) / K)


@pytest.mark.parametrize("status", [s for s in AnswerStatus if s is not AnswerStatus.VALID])
def test_anything_invalid_costs(status):
    reward = conditional_reward(Answer(status=status, order=(0, 1), thought=""), slate(0))
    assert (reward.total, reward.rank, reward.format) == (INVALID, 0.0, 0.0)


def test_stays_first_needs_to_stay_first():
    assert total([1, 0, *range(2, K)], 0) == pytest.approx(-0.1)


def test_blind_to_relabelling():
    """Renaming the candidates, with target and answer renamed alike, keeps a reward that depends on ranks alone."""
    named = slate(3)
    renamed = Slate(**{f: getattr(named, f) for f in named.__slots__} | {"candidates": tuple("abcdefghij")})
    answer = Answer(status=AnswerStatus.VALID, order=(3, 0, 1, 2, 4, 5, 6, 7, 8, 9), thought="")
    assert conditional_reward(answer, named) == conditional_reward(answer, renamed)
