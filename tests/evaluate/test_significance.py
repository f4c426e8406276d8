import numpy as np
import pytest

from gr2.evaluate import significance
from gr2.evaluate.significance import (
    Draws,
    bootstrap_means,
    certain_share,
    holm,
    interval,
    mcnemar,
    paired_p,
    sign_flips,
)


def paired_bootstrap(ours_n, theirs_n, users):
    difference = np.asarray(ours_n, float) - np.asarray(theirs_n, float)
    return paired_p(difference.mean(), bootstrap_means(difference[:, None], users)[:, 0])


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


def test_a_miss_is_a_zero() -> None:
    values, users, missed = np.array([1.0, 0.5, 0.25]), ["a", "b", "b"], ["b", "c"]
    draws = Draws.of(users + missed)
    without = draws.means([np.append(values, [0, 0])], users + missed)
    np.testing.assert_array_equal(draws.means([values], users, missed), without)


def test_a_part_of_the_users_shares_the_draws_of_all() -> None:
    draws = Draws.of(["a", "b", "c"])
    times_a, times_b, _ = draws.times_DG.T.astype(float)
    with np.errstate(invalid="ignore"):
        expected = (times_a * 1 + times_b * 4) / (times_a + 2 * times_b)
    means = draws.means([np.array([1.0, 1.0, 3.0])], ["a", "b", "b"])[:, 0]
    np.testing.assert_allclose(means, expected)
    assert np.isnan(means).mean() == pytest.approx((1 / 3) ** 3, abs=0.01)
    assert interval(means) == (1, 2)


def test_many_users_are_drawn_by_groups_of_the_same_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).random(900)
    users = [f"u{i}" for i in range(900)]
    low, high = interval(bootstrap_means(values[:, None], users)[:, 0])
    monkeypatch.setattr(significance, "GROUPS", 300)
    assert Draws.of(users).times_DG.shape[1] == 300
    assert sorted(np.bincount(list(Draws.of(users).group_of.values()))) == [3] * 300
    by_groups = interval(bootstrap_means(values[:, None], users)[:, 0])
    assert by_groups[1] - by_groups[0] == pytest.approx(high - low, rel=0.12)  # 1 / sqrt(2 * 300) = 4 %, three times


def test_none_of_ten_is_not_certain() -> None:
    # Wilson's upper bound of 0 of n is z^2 / (n + z^2)
    z2 = 1.959964**2
    assert certain_share(np.zeros(10)) == pytest.approx((0, z2 / (10 + z2)), abs=1e-6)
    assert certain_share(np.ones(10)) == pytest.approx((10 / (10 + z2), 1), abs=1e-6)
    assert certain_share(np.array([0.0, 1.0])) is None


def test_holm_by_hand() -> None:
    # sorted .01 .02 .04 times 3, 2, 1 = .03 .04 .04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    # never falling, never above 1: .3 * 2 = .6, and .5 * 1 = .5 is lifted to .6
    assert holm([0.5, 0.3]) == pytest.approx([0.6, 0.6])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_few_users_are_tested_exactly():
    """Two users with .5 and .25: of four signs, two put the sum as far out. A user's slates go together."""
    assert sign_flips(np.array([0.5, 0.25]), ["a", "b"]) == 0.5
    assert sign_flips(np.array([0.5]), ["a"]) == 1.0
    assert sign_flips(np.array([0.5, 0.5, 0.5, 0.5]), ["a", "b", "c", "d"]) == 2 / 16
    assert sign_flips(np.array([0.5, -0.5, 0.25]), ["a", "a", "b"]) == 1.0
