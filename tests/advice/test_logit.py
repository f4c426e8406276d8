"""The conditional logit: weights and columns by hand."""

from dataclasses import replace
from math import log, log1p

import numpy as np
import pytest
from ranked import sample

from gr2.advice.conditional_logit import fit
from gr2.advice.logit import LEAST, columns, fit_logit


def test_weight_by_hand():
    # One column, 1 for the first of two candidates and 0 for the second; 3 of 4 take the first: sigmoid(w) = 3 / 4.
    x_SKG = np.array([[[1.0], [0.0]]] * 4)
    real_SK, targets = np.ones((4, 2), bool), np.array([0, 0, 0, 1])
    assert fit(x_SKG, real_SK, targets, ridge=0.0).item() == pytest.approx(log(3), abs=1e-5)
    assert 0 < fit(x_SKG, real_SK, targets, ridge=0.8).item() < log(3)


def test_padding_takes_no_probability():
    # A third candidate that is not there changes nothing.
    x_SKG = np.array([[[1.0], [0.0], [9.0]]] * 4)
    real_SK = np.array([[True, True, False]] * 4)
    assert fit(x_SKG, real_SK, np.array([0, 0, 0, 1]), ridge=0.0).item() == pytest.approx(log(3), abs=1e-5)


def test_columns_by_hand():
    x_SKF = np.array([[[0, 5.0, 0.1, 1990], [1, 4.0, 0.0, np.nan], [7, 7, 7, 7]]])
    made = replace(
        sample(x_SKF, np.array([0])),
        names=["rank", "score", "together_last1", "year"],
        real_SK=np.array([[True, True, False]]),
    )
    read, x_SKG = columns(made)
    assert read == ("rank", "together_last1", "year")
    place, share = log1p(1), log((0.1 + LEAST) / LEAST)
    np.testing.assert_allclose(x_SKG, [[[place / 2, share / 2, 0], [-place / 2, -share / 2, 0], [0, 0, 0]]], atol=1e-6)


def test_a_slate_that_counts_more_pulls_the_weights():
    """One feature, 1 for the first candidate; it is taken in half of the slates, and those count three times."""
    x_SKF = np.tile([[[1.0], [0.0]]], (200, 1, 1))
    made = sample(x_SKF, np.arange(200) % 2)
    assert fit_logit(made).weights.item() == pytest.approx(0, abs=1e-6)
    counted = replace(made, weights_S=np.where(np.arange(200) % 2 == 0, 1.5, 0.5))
    assert 0.9 * log(3) < fit_logit(counted).weights.item() < log(3)  # the ridge takes a little
