"""The fit, the cross-fit, and blindness to the judged slates' own targets."""

from dataclasses import replace

import numpy as np
import pytest
from cinema import cinema

from gr2.advice.conditional_logit import fit
from gr2.artifacts import Slates
from gr2.errors import UserError
from gr2.teach.evidence import FEATURES, KINDS
from gr2.teach.teacher import RIDGE, Opinions, by_kind, centred, opine
from gr2.types import Slate, Split

FOLDS, SEED = 3, 0


def judged(slates: Slates) -> Opinions:
    return opine(cinema()[0], slates.slates, FOLDS, SEED)


def relabelled(slate: Slate) -> Slate:
    """The same slate with its gains moved round by one."""
    return replace(slate, gains=slate.gains[1:] + slate.gains[:1])


def first_place(opinions: Opinions) -> float:
    return float(np.mean([order[0] == s.target for order, s in zip(opinions.orders, opinions.slates, strict=True)]))


def test_fit_finds_the_weights_that_drew_the_targets() -> None:
    rng = np.random.default_rng(0)
    true = np.array([1.0, -0.5, 0.0])
    features = rng.normal(size=(4000, 5, 3))
    targets = (features @ true + rng.gumbel(size=(4000, 5))).argmax(1)
    weights = fit(features, np.ones((4000, 5), dtype=bool), targets, RIDGE, np.ones(4000))
    np.testing.assert_allclose(weights, true, atol=0.08)


def test_fit_on_one_feature_of_two_candidates_is_the_log_odds() -> None:
    """3,000 of 4,000 choose the candidate with the feature: weight log 3, but for the ridge."""
    features = np.tile(np.array([[[1.0], [0.0]]]), (4000, 1, 1))
    targets = np.repeat([0, 1], [3000, 1000])
    weights = fit(features, np.ones((4000, 2), dtype=bool), targets, RIDGE, np.ones(4000))
    assert weights[0] == pytest.approx(np.log(3), abs=0.02)


def test_slates_count_what_they_are_said_to() -> None:
    """1,000 that count nine times choose the other candidate: weight log (3,000 / 9,000)."""
    features = np.tile(np.array([[[1.0], [0.0]]]), (4000, 1, 1))
    targets, counts = np.repeat([0, 1], [3000, 1000]), np.repeat([1.0, 9.0], [3000, 1000])
    weights = fit(features, np.ones((4000, 2), dtype=bool), targets, RIDGE, counts)
    assert weights[0] == pytest.approx(-np.log(3), abs=0.02)


def test_fit_does_not_see_padding() -> None:
    features = np.tile(np.array([[[1.0], [0.0], [9.0]]]), (4000, 1, 1))
    real = np.tile(np.array([True, True, False]), (4000, 1))
    targets = np.repeat([0, 1], [3000, 1000])
    assert fit(features, real, targets, RIDGE, np.ones(len(targets)))[0] == pytest.approx(np.log(3), abs=0.02)


def test_centred_by_hand() -> None:
    """Slate means 2 and 5; deviations -1, 1 and -2, 2, of which the first slate trains: divided by 1."""
    features = np.array([[[1.0], [3.0], [0.0]], [[3.0], [7.0], [0.0]]])
    real = np.array([[True, True, False], [True, True, False]])
    level = centred(features, real, np.array([True, False]))
    np.testing.assert_allclose(level[:, :, 0], [[-1, 1, 0], [-2, 2, 0]])


def test_by_kind_sums_what_belongs_together() -> None:
    lifts = np.arange(len(FEATURES), dtype=float)[None, None]
    expected = [sum(i for i, (_, kind) in enumerate(FEATURES) if kind == name) for name in KINDS]
    assert by_kind(lifts)[0, 0].tolist() == expected


def test_the_teacher_beats_the_incoming_order_on_a_known_taste() -> None:
    """The incoming order is random: R@1 1/6. Four times in five the chain goes on, and the teacher can know it."""
    for split in Split:
        assert first_place(judged(cinema()[1]).of(split)) > 0.6


def test_orders_are_permutations() -> None:
    assert all(sorted(order) == list(range(6)) for order in judged(cinema()[1]).orders)


def test_relabelled_held_out_slates_are_ranked_as_before() -> None:
    _, slates = cinema()
    moved = Slates(slates=tuple(s if s.split is Split.TRAIN else relabelled(s) for s in slates.slates))
    np.testing.assert_array_equal(judged(slates).strengths, judged(moved).strengths)


def test_a_users_own_targets_do_not_reach_the_weights_that_judge_them() -> None:
    _, slates = cinema()
    moved = Slates(slates=tuple(relabelled(s) if s.user_id == "u5" else s for s in slates.slates))
    before, after = judged(slates), judged(moved)
    own = np.array([s.user_id == "u5" for s in slates.slates])
    np.testing.assert_array_equal(before.strengths[own], after.strengths[own])
    assert (before.strengths != after.strengths).any()


def test_without_training_slates_there_is_no_teacher() -> None:
    corpus, slates = cinema()
    with pytest.raises(UserError, match="04_slates: no training slates"):
        opine(corpus, slates.split(Split.TEST), FOLDS, SEED)
