"""Trees upon a logit: the loss they stop by, by hand, and what no logit can say."""

from dataclasses import replace
from math import exp, log

import lightgbm as lgb
import numpy as np
import pytest
from ranked import sample

from gr2.advice.sample import Sample
from gr2.advice.trees import grow, nats


def test_nats_by_hand():
    # Scores 2, 0, 0 with the first taken; 0, log 3 with the first taken; the second slate counts three times.
    data = lgb.Dataset(np.zeros((5, 1)), label=[1, 0, 0, 1, 0], group=[3, 2], weight=[1, 1, 1, 3, 3]).construct()
    name, value, higher_is_better = nats(np.array([2.0, 0, 0, 0, log(3)]), data)
    assert value == pytest.approx((log(1 + 2 * exp(-2)) + 3 * log(4)) / 4)
    assert (name, higher_is_better) == ("nats", False)


def puzzle(n: int, seed: int, users: int | None = None) -> Sample:
    """Slates of which one candidate is neither cheap nor dear; all others are either."""
    rng = np.random.default_rng(seed)
    targets_S = rng.integers(4, size=n)
    price_SK = rng.choice([0, 1, 8, 9], (n, 4))
    price_SK[np.arange(n), targets_S] = rng.choice([4, 5], n)
    made = sample(price_SK[:, :, None], targets_S)
    return replace(made, slates=tuple(replace(s, user_id=f"u{i % (users or n)}") for i, s in enumerate(made.slates)))


def right(of: Sample, scores_M: np.ndarray) -> float:
    """Share of slates whose target has the highest score."""
    return float(np.mean(scores_M.reshape(of.real_SK.shape).argmax(1) == of.gains_SK.argmax(1)))


def test_trees_see_what_no_logit_can():
    train, new = puzzle(800, seed=0), puzzle(200, seed=1)
    trees = grow(train, np.zeros(train.real_SK.shape))
    assert trees
    price_M = new.x_SKF[new.real_SK]
    assert right(new, np.asarray(trees.predict(price_M))) > 0.95
    for weight in (-1, 1):
        assert right(new, weight * price_M[:, 0]) < 0.2


def test_what_the_logit_says_already_is_not_said_again():
    train = puzzle(800, seed=0)
    trees = grow(train, 20.0 * np.isin(train.x_SKF[:, :, 0], [4, 5]))
    assert trees
    assert np.abs(np.asarray(trees.predict(train.x_SKF[train.real_SK]))).max() < 0.1


def test_of_few_users_none_are_grown():
    train = puzzle(40, seed=0, users=4)
    assert grow(train, np.zeros(train.real_SK.shape)) is None
