"""Neighbours of four users, counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
import shop
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.artifacts import Corpus
from gr2.retrieve.neighbours import FADING, NEARBY, Neighbours, remember, user_rows, with_votes
from gr2.types import Item, Slate, Split, Timeline

ITEMS = "abcde"


def timeline(user: str, items: str, held_out: str = "") -> Timeline:
    splits = (*[Split.TRAIN] * len(items), *[Split.TEST] * len(held_out))
    return Timeline(
        user_id=user, item_ids=tuple(items + held_out), times=tuple(range(len(splits))), splits=tuple(splits)
    )


CORPUS = Corpus(
    items=tuple(Item(item_id=i, title=i) for i in ITEMS),
    timelines=(timeline("u", "ab", "c"), timeline("v", "abc"), timeline("w", "aabd", "e"), timeline("x", "e")),
)
MEMORY = remember(CORPUS)


def slate(user: str, history: str, candidates: str) -> Slate:
    return Slate(
        slate_id="s",
        user_id=user,
        split=Split.TEST,
        time=9,
        history=tuple(history),
        candidates=tuple(candidates),
        scores=tuple(-float(i) for i in range(len(candidates))),
        gains=(1, *[0] * (len(candidates) - 1)),
    )


def votes(one: Slate, memory: Neighbours = MEMORY) -> tuple[float, ...]:
    (asked,) = with_votes([one], memory, CORPUS.row, user_rows(CORPUS))
    assert replace(asked, votes=()) == one
    return asked.votes


def voice(distinct: int, *distances: int) -> float:
    """A neighbour of so many items, who took the candidate so far from the newest history item, the one before, ..."""
    near = sum(FADING**age / (1 + d / NEARBY) for age, d in enumerate(distances))
    return near**3 / np.sqrt(distinct + 20)


def test_only_distinct_training_items_are_remembered():
    assert MEMORY.n_users == 4
    assert MEMORY.keys.tolist() == [0, 1, 5, 6, 7, 10, 11, 13, 19]  # 5 items a user: u a b, v a b c, w a b d, x e
    assert MEMORY.places.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 0]


def test_votes_by_hand():
    """u has seen a, b. v took c one place after b, two after a; w took d so; nobody who shares anything took e."""
    found = votes(slate("u", "ab", "cde"))
    assert found == pytest.approx([voice(3, 1, 2), voice(3, 1, 2), 0])


def test_what_is_nearer_weighs_more():
    """After b alone, a counts one place away from it, for u, v and w; c for v only."""
    found = votes(slate("new", "b", "acd"))
    assert found == pytest.approx([voice(2, 1) + 2 * voice(3, 1), voice(3, 1), voice(3, 1)])


def test_nobody_votes_for_oneself():
    assert votes(slate("v", "ab", "c")) == (0,)
    assert votes(slate("new", "ab", "c")) == pytest.approx([voice(3, 1, 2)])


def test_without_history_or_neighbours_nobody_votes():
    assert votes(slate("u", "", "cd")) == (0, 0)
    nobody = remember(replace(CORPUS, timelines=()))
    assert with_votes([slate("u", "ab", "cd")], nobody, CORPUS.row, {})[0].votes == (0, 0)


@settings(deadline=None, max_examples=30)
@given(st.permutations(list(range(shop.K))))
def test_votes_are_blind_to_the_shown_order(order):
    corpus = shop.corpus()
    memory = remember(corpus)
    one = shop.slates(1, Split.TRAIN)[0]
    other = replace(one, candidates=tuple(one.candidates[c] for c in order))
    first, second = with_votes([one, other], memory, corpus.row, user_rows(corpus))
    assert second.votes == pytest.approx([first.votes[c] for c in order])


def test_saved_and_loaded(tmp_path):
    MEMORY.save(tmp_path)
    again = Neighbours.load(tmp_path)
    one = slate("u", "ab", "cde")
    assert votes(one, again) == votes(one)
