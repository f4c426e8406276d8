"""Trees upon a logit: the loss they stop by, by hand, and what no logit can say."""

from dataclasses import replace
from math import exp, log

import lightgbm as lgb
import numpy as np
import pytest
import shop

from gr2.advice.trees import grow, nats
from gr2.types import Split


def test_nats_by_hand():
    # Scores 2, 0, 0 with the first taken; 0, log 3 with the first taken; the second slate counts three times.
    data = lgb.Dataset(np.zeros((5, 1)), label=[1, 0, 0, 1, 0], group=[3, 2], weight=[1, 1, 1, 3, 3]).construct()
    name, value, higher_is_better = nats(np.array([2.0, 0, 0, 0, log(3)]), data)
    assert value == pytest.approx((log(1 + 2 * exp(-2)) + 3 * log(4)) / 4)
    assert (name, higher_is_better) == ("nats", False)


def puzzle(n: int, seed: int):
    """Slates of which one candidate is neither cheap nor dear; all others are either."""
    rng = np.random.default_rng(seed)
    slates, prices = [], []
    for i, slate in enumerate(shop.slates(n, Split.TRAIN, seed)):
        price = rng.choice([0, 1, 8, 9], shop.K)
        price[slate.target] = rng.choice([4, 5])
        slates.append(replace(slate, user_id=f"u{i}"))
        prices.append(price)
    return slates, np.concatenate(prices).astype(float)[:, None]


def firsts(scores_M: np.ndarray) -> list[int]:
    return scores_M.reshape(-1, shop.K).argmax(1).tolist()


def test_trees_see_what_no_logit_can():
    slates, x_MF = puzzle(800, seed=0)
    trees = grow(slates, x_MF, np.zeros(len(x_MF)), np.ones(len(slates)))
    assert trees
    new, x_new = puzzle(200, seed=1)
    hits = np.mean([a == s.target for a, s in zip(firsts(np.asarray(trees.predict(x_new))), new, strict=True)])
    assert hits > 0.95
    for weight in (-1, 1):
        assert np.mean([a == s.target for a, s in zip(firsts(weight * x_new[:, 0]), new, strict=True)]) < 0.2


def test_what_the_logit_says_already_is_not_said_again():
    slates, x_MF = puzzle(800, seed=0)
    known_M = 20.0 * np.isin(x_MF[:, 0], [4, 5])
    trees = grow(slates, x_MF, known_M, np.ones(len(slates)))
    assert trees
    assert np.abs(np.asarray(trees.predict(x_MF))).max() < 0.1


def test_of_few_users_none_are_grown():
    slates, x_MF = puzzle(4, seed=0)
    assert grow(slates, x_MF, np.zeros(len(x_MF)), np.ones(4)) is None
