from math import inf

import pytest
from test_metrics import slate

from gr2.artifacts import Corpus
from gr2.baselines.simple import rank_incoming
from gr2.evaluate.slices import HeldOut, held_out, slices, thirds
from gr2.evaluate.table import evaluate
from gr2.types import DAY, Item, Split, Timeline

TRAIN, TEST = Split.TRAIN, Split.TEST


def event(slate_id: str, history: int, popularity: int, gap: float = 0) -> HeldOut:
    user = slate_id.split(":")[0]
    return HeldOut(slate_id=slate_id, user_id=user, history=history, gap=gap, popularity=popularity)


SLATES = [slate((1, 0, 0), "a:1"), slate((0, 1, 0), "b:1"), slate((0, 0, 1), "c:1")]
EVENTS = [event("a:1", 5, 30), event("b:1", 9, 10), event("c:1", 20, 9), event("c:2", 21, 0), event("d:1", 2, 50)]


def test_thirds_hold_a_third_each() -> None:
    assert list(thirds(range(1, 10))) == ["up to 3", "4 to 6", "over 6"]
    assert thirds([1, 1, 1, 1, 5]) == {"up to 1": (0, 1), "over 1": (2, float("inf"))}


def test_every_event_is_in_one_slice_of_each_cut() -> None:
    cuts: dict[str, list[str]] = {}
    for part in slices(SLATES, EVENTS):
        found = [SLATES[i].user_id for i in part.rows] + list(part.missed)
        cuts.setdefault(part.by, []).extend(found)
    assert sorted(cuts.pop("target came in at")) == ["a", "b", "c"]
    assert len(cuts) == 4
    assert all(sorted(users) == ["a", "b", "c", "c", "d"] for users in cuts.values())


def test_cold_is_fewer_than_ten_training_events() -> None:
    cold, warm = (p for p in slices(SLATES, EVENTS) if p.by.startswith("cold"))
    assert ([SLATES[i].user_id for i in cold.rows], cold.missed) == (["c"], ("c",))
    assert ([SLATES[i].user_id for i in warm.rows], warm.missed) == (["a", "b"], ("d",))


def test_a_gap_is_of_one_day_or_of_thirty_or_longer() -> None:
    events = [
        event("a:1", 5, 1, DAY - 1),
        event("b:1", 9, 1, DAY),
        event("c:1", 2, 1, 30 * DAY),
        event("d:0", 0, 1, inf),
    ]
    same, month, longer = (p for p in slices(SLATES, events) if p.by == "time since the event before")
    assert [[SLATES[i].user_id for i in p.rows] for p in (same, month, longer)] == [["a"], ["b"], ["c"]]
    assert [p.missed for p in (same, month, longer)] == [(), (), ("d",)]


def test_without_events_there_is_only_the_position() -> None:
    assert {part.by for part in slices(SLATES, ())} == {"target came in at"}
    assert {part.by for part in slices(SLATES, EVENTS[1:])} == {"target came in at"}


def test_events_come_from_the_corpus() -> None:
    corpus = Corpus(
        items=(Item(item_id="x", title="x"), Item(item_id="y", title="y")),
        timelines=(
            Timeline(user_id="a", item_ids=("x", "x", "y"), times=(0, 1, 2), splits=(TRAIN, TRAIN, TEST)),
            Timeline(user_id="b", item_ids=("y", "x"), times=(0, 9), splits=(TRAIN, TEST)),
            Timeline(user_id="c", item_ids=("x",), times=(4,), splits=(TEST,)),
        ),
    )
    assert held_out(corpus, TEST) == [event("a:2", 2, 1, 1), event("b:1", 1, 2, 9), event("c:0", 0, 2, inf)]


def test_a_slice_is_a_table_by_both_protocols() -> None:
    events = {"a": 1, "b": 1, "c": 2, "d": 1}
    scores = evaluate(SLATES, events, {"incoming": rank_incoming(SLATES)}, best_legacy="incoming", held_out=EVENTS)
    cold = "cold targets, training events"
    given, end = scores.slices["given_target"][cold], scores.slices["end_to_end"][cold]
    # c's target came in third; its other event was missed
    row = given["cold: fewer than 10"]["incoming"]
    assert (row["R@1"].value, row["MRR"].value, row["MRR"].n) == (0, pytest.approx(1 / 3), 1)
    row = end["cold: fewer than 10"]["incoming"]
    assert (row["MRR"].value, row["MRR"].n) == (pytest.approx(1 / 3 / 2), 2)
    row = end["10 or more"]["incoming"]
    assert (row["R@1"].value, row["R@1"].n) == (pytest.approx(1 / 3), 3)
    assert "target came in at" in scores.slices["given_target"]
    assert "target came in at" not in scores.slices["end_to_end"]
    for cut in (*scores.slices["given_target"].values(), *scores.slices["end_to_end"].values()):
        for table in cut.values():
            assert all(v.low <= v.value + 1e-12 and v.value <= v.high + 1e-12 for v in table["incoming"].values())
