"""Position debiasing on a click log simulated with a known truth."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.propensity import (
    checked,
    click_weights,
    estimate,
    ipw_per_slate,
    slate_weights,
    swaps,
    weighted_gains,
)
from gr2.reward.scores import auc, ndcg
from gr2.types import Ranking, Slate, Split

CAROUSEL = 1 / np.arange(1, 9) ** 0.8
GRID = np.outer([1.0, 0.6, 0.3], [1.0, 0.8, 0.5]).ravel()


def click_log(theta_K, pairs: int, sightings: int, seed: int = 0, wanted=(0.05, 0.5)):
    """Places, pairs, clicks of every sighting; what is wanted more is shown nearer to the top, as a ranker does it."""
    rng = np.random.default_rng(seed)
    rel_P = np.sort(rng.uniform(*wanted, pairs))[::-1]
    pair_M = np.repeat(np.arange(pairs), sightings)
    quantile_M = 0.4 * pair_M / pairs + 0.6 * rng.random(len(pair_M))
    place_M = (quantile_M * len(theta_K)).astype(int)
    click_M = rng.random(len(pair_M)) < theta_K[place_M] * rel_P[pair_M]
    return place_M, pair_M, click_M


@pytest.mark.parametrize(("theta_K", "columns"), [(CAROUSEL, None), (GRID, 3)], ids=["carousel", "grid"])
@pytest.mark.parametrize(("pairs", "sightings"), [(100_000, 3), (100, 3_000)], ids=["rare pairs", "often seen pairs"])
def test_em_recovers_the_propensities(theta_K, columns, pairs, sightings):
    """To .05 from 300,000 sightings, though clicks per place are confounded with what is wanted."""
    places, pair, clicks = click_log(theta_K, pairs, sightings)
    rates = np.bincount(places, clicks) / np.bincount(places)
    estimated = estimate(swaps(places, pair, clicks), len(theta_K), columns)
    assert np.abs(estimated - theta_K).max() < 0.05
    assert np.abs(rates / rates.max() - theta_K).max() > 0.05


def test_two_places_by_hand():
    """Each pair was seen at both places: 4 and 2 clicks of 5, so the second is looked at half as often."""
    places, pairs = np.tile([0, 1], 5), np.repeat(np.arange(5), 2)
    clicks = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0, 0])
    found = swaps(places, pairs, clicks)
    assert found.places.tolist() == [0, 1]
    assert found.shown.tolist() == [2.5, 2.5]  # 5 pairs, each weighing 1 * 1 / (1 + 1)
    assert found.clicked.tolist() == [2.0, 1.0]
    assert estimate(found, 2) == pytest.approx([1.0, 0.5], abs=1e-5)


def test_a_grid_is_a_product():
    """Places 1 to 3 of a 2 x 2 grid are swapped; the fourth follows: (1/2) x (1/4)."""
    rng = np.random.default_rng(0)
    theta = np.array([1.0, 0.25, 0.5])
    pairs = np.repeat(np.arange(60_000), 2)
    places = rng.permuted(np.tile([0, 1, 2], (60_000, 1)), axis=1)[:, :2].ravel()
    clicks = rng.random(len(places)) < 0.4 * theta[places]
    assert estimate(swaps(places, pairs, clicks), 4, columns=2) == pytest.approx([1, 0.25, 0.5, 0.125], abs=0.03)
    with pytest.raises(UserError, match="place 4 has none"):
        estimate(swaps(places, pairs, clicks), 4)


@pytest.mark.parametrize(
    ("places", "pairs", "message"),
    [([0, 1, 2, 3], [0, 1, 2, 3], "place 1, 2, 3, 4 has none"), ([0, 1, 2, 3], [0, 0, 1, 1], "groups of places")],
)
def test_places_that_no_swap_links_are_not_guessed(places, pairs, message):
    with pytest.raises(UserError, match=message):
        estimate(swaps(np.array(places), np.array(pairs), np.ones(4)), 4)


def slate(number: int, gains: tuple[int, ...]) -> Slate:
    k = len(gains)
    return Slate(
        slate_id=f"s{number}",
        user_id=f"u{number}",
        split=Split.TEST,
        time=number,
        history=(),
        candidates=tuple(f"i{c}" for c in range(k)),
        scores=tuple(-float(c) for c in range(k)),
        gains=gains,
    )


def ranked(slates, orders) -> list[Ranking]:
    return [Ranking(slate_id=s.slate_id, order=tuple(map(int, o))) for s, o in zip(slates, orders, strict=True)]


def test_the_debiased_metric_finds_the_better_ranker_where_the_naive_one_does_not():
    """Half the slates hold the wanted item in the first places, half further down; people look mostly at the first."""
    rng, n, theta = np.random.default_rng(0), 20_000, CAROUSEL**2
    k = len(theta)
    wanted = rng.integers(0, k, n)
    clicked = np.flatnonzero(rng.random(n) < theta[wanted])
    # `good` puts it first in 40 % of slates wherever it was shown; `echo` where it came first, which is 1 in 8
    good = np.array(
        [[w, *(c for c in range(k) if c != w)] if rng.random() < 0.4 else [*range(k)][::-1] for w in wanted]
    )
    echo = np.tile(np.arange(k), (n, 1))
    truth = {name: np.mean(orders[:, 0] == wanted) for name, orders in (("good", good), ("echo", echo))}
    assert truth["good"] > truth["echo"] + 0.2

    slates = [slate(i, tuple(int(c == wanted[i]) for c in range(k))) for i in clicked]
    naive = {
        n: per_slate(slates, ranked(slates, o[clicked]))["R@1"].mean() for n, o in (("good", good), ("echo", echo))
    }
    fair = {
        n: ipw_per_slate(slates, ranked(slates, o[clicked]), theta, clip=100)["IPW R@1"].mean()
        for n, o in (("good", good), ("echo", echo))
    }
    assert naive["echo"] > naive["good"] + 0.1
    assert fair["good"] > fair["echo"] + 0.2
    for name in truth:
        assert fair[name] == pytest.approx(truth[name], abs=0.05)


@given(st.lists(st.tuples(st.integers(0, 4), st.permutations(range(5))), min_size=1, max_size=8))
def test_with_one_click_and_equal_propensities_nothing_changes(shown):
    slates = [slate(i, tuple(int(c == target) for c in range(5))) for i, (target, _) in enumerate(shown)]
    rankings = ranked(slates, [order for _, order in shown])
    plain, weighted = per_slate(slates, rankings), ipw_per_slate(slates, rankings, np.full(5, 0.3))
    assert weighted.keys() == {f"IPW {name}" for name in plain}
    for name, values in plain.items():
        assert weighted[f"IPW {name}"] == pytest.approx(values)


def test_ipw_by_hand():
    theta = np.array([1.0, 0.5, 0.01])
    slates = [slate(0, (1, 0, 0)), slate(1, (0, 1, 2))]  # weights 1; 2 and, clipped, 10
    values = ipw_per_slate(slates, ranked(slates, [(1, 0, 2), (2, 1, 0)]), theta)
    mean = (1 + (2 + 10)) / 2
    ratio = 10 / 13  # the values are the ratio, and how far each slate is from it, by its weight
    assert values["IPW R@1"] == pytest.approx([ratio + (0 - ratio * 1) / mean, ratio + (10 - ratio * 12) / mean])
    assert values["IPW R@1"].mean() == pytest.approx(ratio)
    assert values["IPW R@3"] == pytest.approx([1, 1])  # every click is found, whatever it weighs: nothing spreads
    assert values["IPW MRR"].mean() == pytest.approx((0.5 + 10 + 2 / 2) / 13)
    worth = 1 + (2 * 1 + 10 * 3)  # a conversion is worth 2^2 - 1 clicks
    assert values["IPW N@3"].mean() == pytest.approx((1 / log2(3) + 30 + 2 / log2(3)) / worth)


def test_intervals_of_weighted_metrics_hold_the_truth_as_often_as_they_say():
    """A ranker that hits 6 in 10, 300 simulated logs: 95 % intervals hold .6 in 93 to 97 of 100."""
    rng, theta = np.random.default_rng(0), CAROUSEL
    held = []
    for _ in range(300):
        wanted = rng.integers(0, 8, 600)
        wanted = wanted[rng.random(600) < theta[wanted]]
        slates = [slate(i, tuple(int(c == w) for c in range(8))) for i, w in enumerate(wanted)]
        first = np.where(rng.random(len(wanted)) < 0.6, wanted, (wanted + 1) % 8)
        orders = [(f, *(c for c in range(8) if c != f)) for f in first.tolist()]
        values = ipw_per_slate(slates, ranked(slates, orders), theta)["IPW R@1"]
        held.append(abs(values.mean() - 0.6) < 1.96 * values.std() / len(values) ** 0.5)
    assert 0.93 <= np.mean(held) <= 0.97


def test_what_cannot_be_weighted_is_refused():
    one = slate(0, (0, 1))
    with pytest.raises(UserError, match=r"s0: its ranking .* is no permutation"):
        ipw_per_slate([one], ranked([one], [(0, 0)]), np.ones(2))
    with pytest.raises(UserError, match="s0: no ranking"):
        ipw_per_slate([one], [], np.ones(2))
    with pytest.raises(UserError, match="s0: no candidate has a gain"):
        ipw_per_slate([slate(0, (0, 0))], ranked([one], [(0, 1)]), np.ones(2))
    for bad in ([1.0], [1.0, 0.0], [1.0, 1.5], [1.0, float("nan")]):
        with pytest.raises(UserError, match="give 2 numbers or more"):
            checked(bad, 2)
    assert checked([1, 0.5, 0.2], 2).tolist() == [1, 0.5]


def test_weights_for_rewards():
    theta = np.array([1.0, 0.5, 0.01])
    assert click_weights(theta).tolist() == [1, 2, 10]
    gains = weighted_gains((0, 1, 2), theta)
    assert [2**g - 1 for g in gains] == pytest.approx([0, 2 * 1, 10 * 3])
    # (2, 1, 0): 30 / 1 + 2 / log2(3) is the best there is; (1, 2, 0): 2 / 1 + 30 / log2(3)
    assert ndcg((2, 1, 0), gains) == pytest.approx(1)
    assert ndcg((1, 2, 0), gains) == pytest.approx((2 + 30 / log2(3)) / (30 + 2 / log2(3)))
    assert auc((1, 0, 2), gains) == auc((1, 0, 2), (0, 1, 2))
    # clicks weigh 1 and 2 + 10, with a mean of 6.5
    assert slate_weights([slate(0, (1, 0, 0)), slate(1, (0, 1, 2))], theta).tolist() == [1 / 6.5, 12 / 6.5]
