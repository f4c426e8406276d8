"""Clicks of logged slates weigh what their places say, in whatever is fitted or chosen."""

from dataclasses import replace

import numpy as np
import pytest
from ranked import sample, slate

from gr2.advice.conditional_logit import fit
from gr2.baselines import dcn, lambdamart, prm
from gr2.evaluate.propensity import Examination, mean_metrics, weights_of
from gr2.stages.s13_evaluate import best_on_validation
from gr2.types import Ranking, Split

METHODS = pytest.mark.parametrize("method", [lambdamart.METHOD, dcn.METHOD, prm.METHOD], ids=lambda m: m.name)
SELDOM = Examination(propensities=np.array([1.0, 0.25]), source="given")
SLATES = [slate(f"u{n}:5", Split.VALID, (), ("a", "b"), target) for n, target in enumerate((0, 0, 0, 1))]
"""Three clicks at the first place, one at the second, which is looked at a quarter as often."""


def ranked(order: tuple[int, int]) -> list[Ranking]:
    return [Ranking(slate_id=s.slate_id, order=order) for s in SLATES]


def test_what_is_chosen_by_by_hand():
    echo, reverse = ranked((0, 1)), ranked((1, 0))
    assert mean_metrics(SLATES, echo, None)["R@1"] == 3 / 4
    assert mean_metrics(SLATES, echo, Examination(propensities=None, source="too few"))["R@1"] == 3 / 4
    assert mean_metrics(SLATES, echo, SELDOM)["R@1"] == pytest.approx(3 / 7)  # clicks weigh 1, 1, 1 and 4
    assert mean_metrics(SLATES, reverse, SELDOM)["R@1"] == pytest.approx(4 / 7)
    assert weights_of(SLATES, SELDOM) == pytest.approx(np.array([4, 4, 4, 16]) / 7)
    assert weights_of(SLATES, None) is None


def test_the_best_legacy_re_ranker_is_chosen_debiased():
    rankings = {"echo": ranked((0, 1)), "reverse": ranked((1, 0))}
    assert best_on_validation(SLATES, rankings, ["echo", "reverse"], None) == "echo"
    assert best_on_validation(SLATES, rankings, ["echo", "reverse"], SELDOM) == "reverse"


def test_the_logit_weighs_slates_by_hand():
    # One column, 1 for the first candidate: three slates take it, one that counts nine times does not.
    x_SKG = np.array([[[1.0], [0.0]]] * 4)
    counts_S, targets_S = np.array([1.0, 1.0, 1.0, 9.0]), np.array([0, 0, 0, 1])
    found = fit(x_SKG, np.ones((4, 2), bool), targets_S, 0.0, counts_S)
    assert found.item() == pytest.approx(-np.log(3), abs=1e-5)


@METHODS
def test_few_heavy_slates_outweigh_many_light_ones(method):
    """In two slates of three the target has the highest value, in the third, which counts eight times, the lowest."""
    rng = np.random.default_rng(0)
    x_SKF = rng.normal(size=(600, 5, 1))
    high_S = np.arange(600) % 3 > 0
    targets_S = np.where(high_S, x_SKF[:, :, 0].argmax(1), x_SKF[:, :, 0].argmin(1))
    light = sample(x_SKF, targets_S)
    heavy = replace(light, weights_S=np.where(high_S, 1.0, 8.0) * 600 / (400 + 8 * 200))
    for made, best in ((light, x_SKF[:, :, 0].argmax(1)), (heavy, x_SKF[:, :, 0].argmin(1))):
        scores_SK = method.fit(made, method.grid[0], 0, 4).scores(made)
        assert np.mean(scores_SK.argmax(1) == best) > 0.6  # guessing: 1 / 5
