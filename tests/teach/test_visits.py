"""Counts of other users, worked out by hand."""

import numpy as np
import pytest
from cinema import timeline

from gr2.artifacts import Corpus
from gr2.teach.visits import Visits, count
from gr2.types import Item

ITEMS = tuple(Item(item_id=i, title=i) for i in "abcd")
A, B, C, D = range(4)


@pytest.fixture
def visits() -> Visits:
    """u0: a b c (then d, held out); u1: a c b a; u2: a b."""
    return count(
        Corpus(
            items=ITEMS,
            timelines=(timeline("u0", "abcd", held_out=1), timeline("u1", "acba"), timeline("u2", "ab")),
        )
    )


def after(visits: Visits, window: int, user: int, a: int, b: int) -> float:
    return float(visits.others_after(window, np.array(user), np.array(a), np.array(b)))


def test_place_is_that_of_the_first_training_event(visits: Visits) -> None:
    places = visits.place(np.array([0, 0, 1, 1, 2]), np.array([A, D, A, C, C]))
    assert places.tolist() == [0, -1, 0, 1, -1]


def test_a_user_counts_an_item_once_and_held_out_events_never(visits: Visits) -> None:
    assert visits.popularity.tolist() == [3, 3, 2, 0]


def test_others_with_leaves_the_user_out(visits: Visits) -> None:
    assert visits.others_with(np.array([0, 2, -1]), np.array([C, C, C])).tolist() == [2 - 1, 2 - 0, 2]


def test_others_together(visits: Visits) -> None:
    a_and_c = visits.others_together(np.array([0, 1, 2, -1]), np.array([A] * 4), np.array([C] * 4))
    assert a_and_c.tolist() == [2 - 1, 2 - 1, 2 - 0, 2]


def test_others_after_a_window_of_one(visits: Visits) -> None:
    """b directly after a: u0 and u2; u1 has c between them."""
    assert [after(visits, 1, user, A, B) for user in (0, 1, 2)] == [2 - 1, 2 - 0, 2 - 1]


def test_others_after_a_window_of_three(visits: Visits) -> None:
    """b at most three places after a: all three users; a after b: nobody, as u1's second a is no first event."""
    assert [after(visits, 3, user, A, B) for user in (0, 1, 2)] == [3 - 1, 3 - 1, 3 - 1]
    assert [after(visits, 3, user, B, A) for user in (0, 1, 2)] == [0, 0, 0]


def test_pairs_do_not_reach_into_the_next_users_timeline(visits: Visits) -> None:
    assert after(visits, 10, -1, C, A) == 0


def test_others_between(visits: Visits) -> None:
    """b at 60 s (u0), 120 s (u1) and 60 s (u2); the end is open."""
    bounds = [(0, 60), (60, 61), (60, 121), (100, 10**9)]
    counted = [int(visits.others_between(np.array(0), np.array(B), np.array(s), np.array(e))) for s, e in bounds]
    assert counted == [0, 2 - 1, 3 - 1, 1]


def test_times_may_have_any_origin() -> None:
    shifted = count(
        Corpus(items=ITEMS, timelines=(timeline("u0", "ab", start=-(10**9)), timeline("u1", "ba", start=0)))
    )
    asked = shifted.others_between(np.array(-1), np.array(A), np.array([-(10**9), 0]), np.array([-(10**9) + 1, 100]))
    assert asked.tolist() == [1, 1]
