"""Ties: an order that the file made is told from one that people made, and drawn anew."""

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gr2 import new
from gr2.artifacts import Corpus
from gr2.cli import app
from gr2.corpus.ties import drawn, redrawn, settled, tied, ties_of, training_ties
from gr2.record import read_json
from gr2.stages import s01_corpus
from gr2.types import Split, Timeline

ITEMS = "abcdef"


def baskets(order, users=60, items=4):
    """Users who took some items on one day, in the order that `order` gives to a list of them, and one a day later."""
    random = Random(7)
    log = {}
    for u in range(users):
        taken = random.sample(ITEMS, items + 1)
        log[f"u{u}"] = [(item, 0) for item in order(taken[:-1])] + [(taken[-1], 1)]
    return log


def test_agreement_by_hand():
    log = {
        "u": [("a", 0), ("b", 0)],
        "v": [("a", 0), ("b", 0), ("c", 0)],
        "w": [("b", 0), ("a", 0)],
        "x": [("b", 0), ("a", 1)],
        "y": [("c", 5), ("c", 5)],
    }
    ties = ties_of(log)
    # a and b met three times, twice that way: each of the two agrees with one of two others, the third with none.
    # b and c met once, b and a of x are a second apart, and an item does not meet itself.
    assert (ties.tied, ties.meetings) == (4, 3)
    assert ties.agreement == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_no_ties_agree_in_nothing():
    ties = ties_of({"u": [("a", 0), ("b", 1), ("a", 2)]})
    assert (ties.tied, ties.meetings, ties.agreement, ties.of_the_file) == (0, 0, 0.0, False)


def test_the_alphabet_is_found_and_drawn_anew():
    log = baskets(sorted)
    shuffled, ties = settled(log)
    assert ties.agreement == 1
    after = ties_of(shuffled)
    assert 0.3 < after.agreement < 0.7
    assert not after.of_the_file
    assert settled(shuffled)[0] is shuffled


def test_any_fixed_order_is_found():
    assert settled(baskets(lambda taken: sorted(taken, key="dbface".index)))[1].of_the_file


def test_an_order_of_people_is_kept():
    log = baskets(list)
    assert settled(log)[0] is log


def test_a_few_that_agree_are_kept():
    log = baskets(sorted, users=4)
    assert ties_of(log).agreement == 1
    assert settled(log)[0] is log


@given(st.dictionaries(st.text(max_size=3), st.lists(st.tuples(st.sampled_from(ITEMS), st.integers(0, 3)), max_size=9)))
def test_drawing_moves_nothing_between_times(log):
    log = {user: sorted(events, key=lambda event: event[1]) for user, events in log.items()}
    again = drawn(log)
    assert again == drawn(log)
    assert {u: sorted(e, key=lambda event: (event[1], event[0])) for u, e in again.items()} == {
        u: sorted(e, key=lambda event: (event[1], event[0])) for u, e in log.items()
    }
    assert [[time for _, time in e] for e in again.values()] == [[time for _, time in e] for e in log.values()]


def test_every_order_of_a_basket_is_as_likely():
    log = {f"u{u}": [("a", 0), ("b", 0), ("c", 0)] for u in range(6_000)}
    orders = ["".join(item for item, _ in events) for events in drawn(log).values()]
    assert {order: round(orders.count(order) / 1_000, 0) for order in sorted(set(orders))} == dict.fromkeys(
        ["abc", "acb", "bac", "bca", "cab", "cba"], 1
    )


def timelines(log, held_out=1):
    """As stage 1 would make them."""
    return [
        Timeline(
            user_id=user,
            item_ids=tuple(item for item, _ in events),
            times=tuple(time for _, time in events),
            splits=(Split.TRAIN,) * (len(events) - held_out) + (Split.TEST,) * held_out,
        )
        for user, events in log.items()
    ]


def test_where_events_of_one_time_stand():
    assert tied([0, 1, 1, 2, 5, 5, 5]) == [slice(1, 3), slice(4, 7)]
    assert tied([3, 3]) == [slice(0, 2)]
    assert tied([1]) == tied([]) == []


def test_training_ties_are_free_where_their_order_says_nothing():
    random_order = timelines(baskets(list) | {"alone": [("a", 0), ("b", 1)], "late": [("a", 0), ("b", 5), ("c", 5)]})
    *days, alone, late = training_ties(random_order)
    assert days == [[slice(0, 4)]] * 60
    assert alone == late == []  # of late's two events of one time one is held out
    assert training_ties(timelines(baskets(sorted))) == [[]] * 60


@given(st.lists(st.integers(0, 4), max_size=12).map(sorted), st.integers(0, 2**32))
def test_redrawing_keeps_every_time_its_items(times, seed):
    rows = list(range(len(times)))
    again = redrawn(rows, tied(times), np.random.default_rng(seed))
    assert [times[row] for row in again] == times
    assert sorted(again) == rows
    assert rows == list(range(len(times)))


@pytest.fixture
def files(tmp_path):
    """A catalogue, and a log whose days are sorted by item."""
    items, events = tmp_path / "items.jsonl", tmp_path / "log.jsonl"
    items.write_text("".join(json.dumps({"item_id": i, "title": i}) + "\n" for i in ITEMS))
    rows = [(u, i, t) for u, taken in baskets(sorted).items() for i, t in taken]
    events.write_text("".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t}) + "\n" for u, i, t in rows))
    return items, events


@pytest.mark.parametrize(("ties", "agreement"), [("file", 1.0), (None, None)])
def test_the_stage_draws_them_unless_told_to_keep_them(tmp_path, files, ties, agreement):
    config = s01_corpus.Config(
        reader="generic", items=files[0], events=files[1], n_test=1, n_valid=1, **({"ties": ties} if ties else {})
    )
    s01_corpus.main(tmp_path, config, seed=0)
    corpus = Corpus.load(tmp_path / s01_corpus.NAME)
    made = ties_of({t.user_id: list(zip(t.item_ids, t.times, strict=True)) for t in corpus.timelines})
    counts = read_json(tmp_path / s01_corpus.NAME / "record.json")["counts"]
    assert (counts["tied"], counts["ties_agree"], counts["ties_drawn"]) == (180, 1.0, ties is None)
    assert made.tied == 180
    assert made.agreement == agreement if agreement else made.agreement < 0.7


def test_gr2_new_says_so(tmp_path, files):
    answer = CliRunner().invoke(
        app, ["new", str(tmp_path / "shop.toml"), "--items", str(files[0]), "--events", str(files[1])]
    )
    assert "180 events at the time of the one before, sorted by item" in " ".join(answer.output.split())
    assert "sorted by item" not in "\n".join(new.said(new.look(files[0], unsorted(files[1])), tmp_path / "shop.toml"))


def unsorted(path):
    """The log with its rows in a random order."""
    rows = path.read_text().splitlines(keepends=True)
    Random(1).shuffle(rows)
    other = path.with_name("shuffled.jsonl")
    other.write_text("".join(rows))
    return other
