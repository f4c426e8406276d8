"""A shop of four items and four users, small enough to count by hand."""

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest

from gr2.advice.counts import count, cross_count
from gr2.advice.features import SHRINK, Knowledge, features
from gr2.artifacts import Corpus
from gr2.types import DAY, Item, Slate, Split, Timeline

A, B, C, D = range(4)
ITEMS = (
    Item(item_id="a", title="A", categories=("war",), year=1990),
    Item(item_id="b", title="B", categories=("war", "love"), year=1992),
    Item(item_id="c", title="C", categories=("love",), year=None),
    Item(item_id="d", title="D", categories=(), year=1999),
)


def timeline(user: str, items: str, tests: int = 0) -> Timeline:
    splits = (Split.TRAIN,) * (len(items) - tests) + (Split.TEST,) * tests
    return Timeline(user_id=user, item_ids=tuple(items), times=tuple(DAY * t for t in range(len(items))), splits=splits)


CORPUS = Corpus(
    items=ITEMS,
    timelines=(timeline("u0", "abc"), timeline("u1", "bac"), timeline("u2", "adb", tests=1), timeline("u3", "abd")),
)
FOLDS = {"u0": 0, "u1": 0, "u2": 1, "u3": 1}


def slate(user: str, split: Split, history: str, candidates: str, days: float) -> Slate:
    k = len(candidates)
    return Slate(
        slate_id=f"{user}:{len(history)}",
        user_id=user,
        split=split,
        time=int(days * DAY),
        history=tuple(history),
        candidates=tuple(candidates),
        scores=tuple(5.0 - i for i in range(k)),
        gains=(1,) + (0,) * (k - 1),
    )


def column(slates: list[Slate], name: str, corpus: Corpus = CORPUS, **extra: np.ndarray) -> list[list[float]]:
    names, matrices = features(slates, Knowledge(corpus=corpus, counts=cross_count(corpus, FOLDS), **extra))
    return [matrix[:, names.index(name)].tolist() for matrix in matrices]


def test_counts_by_hand() -> None:
    counts = count(CORPUS.timelines, CORPUS.row)
    assert counts.popularity.tolist() == [4, 3, 2, 2]  # u2's b is a test event
    assert counts.together.toarray()[A].tolist() == [4, 3, 2, 2]
    assert counts.follows[1].toarray()[A].tolist() == [0, 2, 1, 1]  # a then b: u0, u3; a then c: u1; a then d: u2
    assert counts.follows[5].toarray()[A].tolist() == [0, 2, 2, 2]
    assert counts.follows[1].toarray()[B].tolist() == [1, 0, 1, 1]
    assert counts.between(np.array([B, B]), np.array([0, 1]), np.array([1, 2 * DAY])).tolist() == [1, 2]


def test_a_repeated_item_counts_once() -> None:
    counts = count([timeline("u", "abab")], CORPUS.row)
    assert counts.popularity.tolist() == [1, 1, 0, 0]
    assert counts.follows[5].toarray()[B].tolist() == [0, 0, 0, 0]


def test_a_test_slate_sees_everyone_and_a_training_slate_the_other_fold() -> None:
    test = slate("u2", Split.TEST, "ad", "bc", days=2)
    train = slate("u0", Split.TRAIN, "ab", "cd", days=2)
    popular = column([test, train], "popularity")
    assert popular[0] == pytest.approx([log((3 + 1) / (4 + 1)), log((2 + 1) / (4 + 1))])
    # outside fold 0 are u2 (a d) and u3 (a b d): nobody with c, both with d
    assert popular[1] == pytest.approx([log((0 + 1) / (2 + 1)), log((2 + 1) / (2 + 1))])


def test_recent_popularity_ends_at_the_cut_off() -> None:
    # before day 1: a by u0 u2 u3, b by u1. The event on day 1 itself does not count.
    recent = column([slate("u2", Split.TEST, "d", "ab", days=1)], "popularity_7d")
    assert recent[0] == pytest.approx([log((3 + 1) / (4 + 1)), log((1 + 1) / (4 + 1))])


def test_transitions_are_counted_when_they_were() -> None:
    counts = count(CORPUS.timelines, CORPUS.row)
    # a then b: u0 and u3, on day 1; a then c: u1 on day 2; b then d: u3 on day 2
    a, pairs = np.array([A, A, A, B]), np.array([B, C, D, A])
    assert counts.soon[1].between(a, pairs, 0, 3 * DAY).tolist() == [2, 1, 1, 1]
    assert counts.soon[1].between(a, pairs, 0, DAY).tolist() == [0, 0, 0, 0]
    assert counts.soon[1].between(a, pairs, DAY, 2 * DAY).tolist() == [2, 0, 1, 1]
    assert counts.soon[5].between(a, pairs, 2 * DAY, 3 * DAY).tolist() == [0, 2, 1, 0]
    assert counts.soon[1].between(np.array(D), np.array(D), 0, 9 * DAY).tolist() == 0


def test_counts_of_nobody() -> None:
    counts = count([], CORPUS.row)
    assert counts.soon[1].between(np.array([A, D]), np.array([B, D]), 0, DAY).tolist() == [0, 0]
    assert all(np.isnan(times).all() for times in counts.span_before(np.array([A, D]), np.array([DAY])))


def test_first_and_last_event_before_now() -> None:
    counts = count(CORPUS.timelines, CORPUS.row)
    first, last = counts.span_before(np.array([A, A, A, C]), np.array([0, 1, 2 * DAY, 2 * DAY]))
    # a: u0, u2, u3 on day 0, u1 on day 1; c: on day 2 only
    np.testing.assert_array_equal(first, [np.nan, 0, 0, np.nan])
    np.testing.assert_array_equal(last, [np.nan, 0, DAY, np.nan])


LATE = Timeline(user_id="u4", item_ids=("d",), times=(200 * DAY,), splits=(Split.TRAIN,))
"""Nothing that these tests ask for, but counts reach far enough."""


def test_age_and_trend_by_hand() -> None:
    corpus = replace(CORPUS, timelines=(*CORPUS.timelines, LATE))
    knowledge = Knowledge(corpus=corpus, counts=cross_count(corpus, {**FOLDS, "u4": 1}))
    names, (first, early) = features(
        [slate("u2", Split.TEST, "d", "abc", days=20), slate("u2", Split.TEST, "d", "ac", days=1)], knowledge
    )
    age, idle, trend = (names.index(name) for name in ("age", "idle", "popularity_trend"))
    assert first[:, age] == pytest.approx([log(1 + 20), log(1 + 20), log(1 + 18)])
    assert first[:, idle] == pytest.approx([log(1 + 19), log(1 + 19), log(1 + 18)])
    # a: nobody in the week before day 20, all 4 in the quarter
    assert first[0, trend] == pytest.approx(log(0.5 / (4 + 0.5 * 90 / 7)))
    assert early[0, age] == pytest.approx(log(2))
    assert np.isnan(early[1, age])  # nobody has had c


def test_after_the_end_of_the_counts_it_is_their_end() -> None:
    at_the_end, later = (slate("u2", Split.TEST, "d", "ab", days=days) for days in (2, 300))
    assert column([later], "popularity_1d") == column([at_the_end], "popularity_1d")
    assert column([later], "idle") == column([at_the_end], "idle")


def test_baskets_and_recent_transitions_by_hand() -> None:
    one_day = Timeline(user_id="u5", item_ids=("d", "c", "a"), times=(0, DAY - 1, DAY), splits=(Split.TRAIN,) * 3)
    corpus = replace(CORPUS, timelines=(*CORPUS.timelines, one_day, LATE))
    counts = count(corpus.timelines, corpus.row)
    assert counts.baskets.toarray().tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    knowledge = Knowledge(corpus=corpus, counts=cross_count(corpus, {**FOLDS, "u4": 1, "u5": 1}))
    names, (early, late) = features(
        [slate("u2", Split.TEST, "ad", "bc", days=2), slate("u2", Split.TEST, "ad", "bc", days=93)], knowledge
    )
    # last event d (4 users): c on its day by u5; before it a (5 users) with nobody
    for matrix in (early, late):
        assert matrix[:, names.index("basket_last1")] == pytest.approx([0, 1 / (4 + SHRINK)])
        assert matrix[:, names.index("basket_last3")] == pytest.approx([0, 1 / (4 + SHRINK) / 2])
        # within 5 places after d: c by u5, on its day; after a: b by u0 and u3, c by u0 and u1, on others
        assert matrix[:, names.index("apart_last1")] == pytest.approx([0, 0])
        assert matrix[:, names.index("apart_last10")] == pytest.approx([2 / (5 + SHRINK) / 2, 2 / (5 + SHRINK) / 2])
    # right after d: c on day 1 by u5, less than 90 days before day 2 and more before day 93
    for matrix, quarter in ((early, 1), (late, 0)):
        assert matrix[:, names.index("after1_90d_last1")] == pytest.approx([0, quarter / (4 + SHRINK)])
        assert matrix[:, names.index("after1_365d_last1")] == pytest.approx([0, 1 / (4 + SHRINK)])


def test_the_moment_by_hand() -> None:
    times = tuple(int(day * DAY) for day in (1, 4.5, 4.9))
    now = replace(slate("u2", Split.TEST, "abd", "bc", days=5), history_times=times)
    first = replace(now, history=("a",), history_times=times[:1])
    later = replace(now, time=int(9.9 * DAY))
    slates = [now, first, later, replace(now, history=(), history_times=())]
    assert [v[0] for v in column(slates, "gap")] == pytest.approx([log(1.1), log(5), log(6), log(10_001)])
    assert [v[0] for v in column(slates, "session")] == [2, 0, 0, 0]
    assert [v[0] for v in column(slates, "gap_before")] == pytest.approx([log(5), log(5), log(6), log(10_001)])
    # b (3 users) is right after a (4 users) twice; d is after b once and c once after b: see test_counts_by_hand
    assert column(slates, "after1_session")[0] == pytest.approx([0, 1 / (3 + SHRINK) / 2])
    assert column(slates, "after1_before")[0] == pytest.approx([2 / (4 + SHRINK), 1 / (4 + SHRINK)])
    assert column(slates, "after1_session")[2] == [0, 0]


def test_without_times_the_moment_is_unknown() -> None:
    unknown = column([slate("u2", Split.TEST, "abd", "bc", days=5)], "gap")
    assert np.isnan(unknown).all()
    for name in ("session", "gap_before", "after1_session", "after5_before", "basket_session"):
        assert np.isnan(column([slate("u2", Split.TEST, "abd", "bc", days=5)], name)).all()


def test_covisitation_by_hand() -> None:
    test = slate("u2", Split.TEST, "ad", "bc", days=2)
    # last event d (2 users); with b (3 users): u3 only; with c (2 users): nobody
    assert column([test], "together_last1")[0] == pytest.approx([1 / sqrt((2 + SHRINK) * (3 + SHRINK)), 0])
    # d right after b: u3, so near, but b is never after d
    assert column([test], "near1_last1")[0] == pytest.approx([1 / sqrt((2 + SHRINK) * (3 + SHRINK)), 0])
    assert column([test], "after1_last1")[0] == [0, 0]
    # mean over d and a: right after a (4 users) comes b twice, c once
    assert column([test], "after1_last3")[0] == pytest.approx([2 / (4 + SHRINK) / 2, 1 / (4 + SHRINK) / 2])
    # decayed sum: a is one step older than d
    assert column([test], "after1_decayed")[0] == pytest.approx([0.9 * 2 / (4 + SHRINK), 0.9 * 1 / (4 + SHRINK)])
    # the closest history item to c is a: 2 users with both
    assert column([test], "together_max")[0][1] == pytest.approx(2 / sqrt((4 + SHRINK) * (2 + SHRINK)))


def test_genres_and_years_by_hand() -> None:
    test = slate("u2", Split.TEST, "ab", "cd", days=2)
    # b is war + love, each 1/sqrt(2); c is love; d has no genre
    assert column([test], "genre_last1")[0] == pytest.approx([1 / sqrt(2), 0])
    assert column([test], "genre_last10")[0] == pytest.approx([1 / sqrt(2) / 2, 0])
    years = column([test], "year_from_last")[0]
    assert np.isnan(years[0])
    assert years[1] == 1999 - 1992
    assert column([test], "year_from_mean")[0][1] == 1999 - (1990 + 1992) / 2


def test_incoming_order_and_score() -> None:
    test = slate("u2", Split.TEST, "a", "bcd", days=2)
    assert column([test], "rank")[0] == [0, 1, 2]
    assert column([test], "score_below_first")[0] == [0, -1, -2]
    assert column([test], "history_length")[0] == [1, 1, 1]


def test_text_and_id_features_by_hand() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    codes = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    test = slate("u2", Split.TEST, "ab", "cd", days=2)
    assert column([test], "text_last1", vectors=vectors)[0] == pytest.approx([0, 0.8])
    assert column([test], "text_last3", vectors=vectors)[0] == pytest.approx([1 / 2, (0.6 + 0.8) / 2])
    assert column([test], "text_max", vectors=vectors)[0] == pytest.approx([1, 0.8])
    # c shares two leading codes with a, one with b; d shares none (its later codes do not count)
    assert column([test], "prefix_last10", codes=codes)[0] == pytest.approx([(1 + 2) / 2, 0])


def test_slates_of_different_lengths() -> None:
    slates = [slate("u2", Split.TEST, "a", "bcd", 2), slate("u2", Split.TEST, "ad", "bc", 2)]
    assert [len(v) for v in column(slates, "together_last1")] == [3, 2]
    assert column(slates, "together_last1")[1] == column(slates[1:], "together_last1")[0]


@pytest.mark.parametrize("later", ["ab", "abd", "abcd", "abdc"])
def test_a_training_slate_is_blind_to_its_own_event_and_all_later_ones(later: str) -> None:
    changed = replace(CORPUS, timelines=(timeline("u0", later), *CORPUS.timelines[1:]))
    train = slate("u0", Split.TRAIN, "ab", "cd", days=2)
    for corpus in (CORPUS, changed):
        names, (matrix,) = features([train], Knowledge(corpus=corpus, counts=cross_count(corpus, FOLDS)))
        if corpus is CORPUS:
            expected = matrix
    np.testing.assert_array_equal(matrix, expected)
    assert len(names) == matrix.shape[1] == len(set(names))
