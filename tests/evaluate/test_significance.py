import numpy as np
import pytest

from gr2.evaluate.significance import bootstrap_means, holm, interval, mcnemar, paired_bootstrap


def test_mcnemar_by_hand() -> None:
    ours, theirs = np.array([1, 1, 1, 1, 1, 1, 0]), np.array([0, 0, 0, 0, 0, 1, 0])
    # five slates only we hit, none only they: 2 * (1/2)^5
    assert mcnemar(ours, theirs) == pytest.approx(2 / 2**5)
    assert mcnemar(theirs, ours) == pytest.approx(2 / 2**5)
    assert mcnemar(ours, ours) == 1.0


def test_mcnemar_with_both_kinds_of_difference() -> None:
    # 3 against 1: P(at most 1 of 4) twice = 2 * (1 + 4) / 16
    ours, theirs = np.array([1, 1, 1, 0]), np.array([0, 0, 0, 1])
    assert mcnemar(ours, theirs) == pytest.approx(2 * (1 + 4) / 16)


def test_identical_rankers_do_not_differ() -> None:
    values = np.random.default_rng(0).random(40)
    assert paired_bootstrap(values, values, [f"u{i}" for i in range(40)]) == 1.0


def test_a_large_steady_difference_is_found() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 200)
    users = [f"u{i}" for i in range(200)]
    assert paired_bootstrap(0.5 + noise, np.zeros(200), users) < 0.001
    assert paired_bootstrap(noise - noise.mean(), np.zeros(200), users) > 0.9


def test_the_interval_of_a_mean_of_independent_users() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = interval(bootstrap_means(values[:, None], [f"u{i}" for i in range(400)])[:, 0])
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.04)
    assert high == pytest.approx(values.mean() + half, abs=0.04)


def test_users_are_drawn_and_not_slates() -> None:
    """Ten copies of every slate of a user tell nothing new: the interval stays as wide."""
    values = np.random.default_rng(2).random(50)
    users = [f"u{i}" for i in range(50)]
    once = interval(bootstrap_means(values[:, None], users)[:, 0])
    copied = interval(bootstrap_means(np.repeat(values, 10)[:, None], np.repeat(users, 10).tolist())[:, 0])
    assert copied == pytest.approx(once, abs=1e-9)


def test_columns_share_their_draws() -> None:
    values = np.random.default_rng(3).random(30)
    means = bootstrap_means(np.stack([values, values + 1], axis=1), [f"u{i % 7}" for i in range(30)])
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .04 times 3, 2, 1 = .03 .04 .04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    # never falling, never above 1: .3 * 2 = .6, and .5 * 1 = .5 is lifted to .6
    assert holm([0.5, 0.3]) == pytest.approx([0.6, 0.6])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
