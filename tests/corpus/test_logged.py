"""Logs of shown slates: read, checked, split by time, with histories that end before the slate."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gr2.artifacts import Corpus
from gr2.corpus.logged import Columns, LogConfig, read_log
from gr2.corpus.logged_slates import boundaries, slates_of
from gr2.errors import UserError
from gr2.types import DAY, Item, Split, Timeline

ITEMS = tuple(Item(item_id=i, title=i) for i in "abcdef")
# u has learned until day 2, so slates of u from day 3 on may be tested with a gap of a day; v has nothing to learn from
CORPUS = Corpus(
    items=ITEMS,
    timelines=(
        Timeline(
            user_id="u",
            item_ids=("a", "b", "c", "d", "e"),
            times=tuple(DAY * d for d in (0, 1, 2, 8, 11)),
            splits=(Split.TRAIN,) * 3 + (Split.VALID, Split.TEST),
        ),
        Timeline(user_id="v", item_ids=("f",), times=(9 * DAY,), splits=(Split.TEST,)),
    ),
)
NO_SCORES = Columns(score="", conversion="")


def rows(slate: str, items: str, clicks: str, day: float = 0, user: str = "u", **more) -> list[dict]:
    """One slate: items and clicks (0, 1, or 2 for a conversion too) place by place."""
    return [
        {
            "slate_id": slate,
            "user_id": user,
            "item_id": item,
            "position": place,
            "click": int(int(click) > 0),
            "conversion": int(click == "2"),
            "score": 9.0 - place,
            "time": int(day * DAY),
            **more,
        }
        for place, (item, click) in enumerate(zip(items, clicks, strict=True), 1)
    ]


def write(path, table: list[dict]):
    frame = pl.DataFrame(table)
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def config(**changes) -> LogConfig:
    return LogConfig(**{"path": "log.parquet", "valid_from": 5 * DAY, "test_from": 10 * DAY, **changes})


THREE = [
    *rows("s1", "abc", "010", day=3),
    *rows("s2", "cde", "002", day=6),
    *rows("s3", "fed", "110", day=12),
]


@pytest.mark.parametrize("name", ["log.parquet", "log.csv"])
def test_a_log_becomes_slates(tmp_path, name):
    log = read_log(write(tmp_path / name, THREE), Columns(), CORPUS)
    shown = slates_of(log, CORPUS, config(), k=3, history_cap=2)
    first, second, third = shown.slates.slates
    assert [s.slate_id for s in shown.slates.slates] == ["s1", "s2", "s3"]
    assert (first.split, second.split, third.split) == (Split.TRAIN, Split.VALID, Split.TEST)
    assert (first.user_id, first.time, first.candidates) == ("u", 3 * DAY, ("a", "b", "c"))
    assert (first.gains, second.gains, third.gains) == ((0, 1, 0), (0, 0, 2), (1, 1, 0))
    assert first.scores == (8.0, 7.0, 6.0)
    # a gap of a day, and what happened exactly a day before is out: s1 knows days 0 and 1, s3 the newest two to day 8
    assert (first.history, second.history, third.history) == (("a", "b"), ("b", "c"), ("c", "d"))
    assert [s.history_times for s in (first, second, third)] == [(0, DAY), (DAY, 2 * DAY), (2 * DAY, 8 * DAY)]
    assert shown.n_events == {Split.TRAIN: {"u": 1}, Split.VALID: {"u": 1}, Split.TEST: {"u": 1}}


def test_the_order_of_rows_places_from_0_and_own_names_change_nothing(tmp_path):
    log = read_log(write(tmp_path / "log.parquet", THREE), Columns(), CORPUS)
    moved = [{**row, "position": row["position"] - 1} for row in THREE[::-1]]
    assert read_log(write(tmp_path / "moved.parquet", moved), Columns(), CORPUS).equals(log)
    renamed = [{"request": row["slate_id"], "clicked": row["click"] == 1, **row} for row in THREE]
    own = Columns(slate="request", click="clicked")
    assert read_log(write(tmp_path / "own.parquet", renamed), own, CORPUS).equals(log)


def test_without_scores_the_place_is_the_score(tmp_path):
    plain = [{k: v for k, v in row.items() if k not in ("score", "conversion")} for row in THREE]
    log = read_log(write(tmp_path / "log.csv", plain), NO_SCORES, CORPUS)
    shown = slates_of(log, CORPUS, config(), k=3, history_cap=2)
    assert {s.scores for s in shown.slates.slates} == {(0.0, -1.0, -2.0)}
    assert shown.slates.by_id["s2"].gains == (0, 0, 1)


def test_what_is_left_out_is_counted(tmp_path):
    table = [
        *THREE,
        *rows("no click", "abc", "000", day=3),
        *rows("all clicked", "abc", "111", day=3),
        *rows("first three clicked", "abcd", "1110", day=3),
        *rows("short", "ab", "01", day=3),
        *rows("cut", "fedcba", "010001", day=12),
        *rows("below", "fedcba", "000001", day=12),
        *rows("stranger", "abc", "100", day=7, user="v"),
        *rows("jumbled", "abc", "100", day=3)[:2],
        *rows("jumbled", "abc", "100", day=3, score=99.0)[2:],
    ]
    log = read_log(write(tmp_path / "log.parquet", table), Columns(), CORPUS)
    shown = slates_of(log, CORPUS, config(gap_days=4), k=3, history_cap=9)
    assert shown.counts == {
        "slates_in_log": 11,
        "learned_from": 1,  # s2 on day 6: its history ends on day 2, and the event of that day was learned from
        "no_negative": 2,
        "no_positive": 1,
        "positive_below_k": 1,
        "shorter_than_k": 1,
        "cut_to_k": 1,
        "empty_history": 3,  # s1 and jumbled, before day -1, and the stranger
        "scores_out_of_order": 1,
    }
    assert {s.slate_id for s in shown.slates.slates} == {"s1", "jumbled", "stranger", "s3", "cut"}
    assert shown.slates.by_id["cut"].candidates == ("f", "e", "d")
    assert shown.slates.by_id["cut"].gains == (0, 1, 0)
    # the click below place 3 is a miss, as a target that was not retrieved is
    assert shown.n_events == {Split.TRAIN: {"u": 2}, Split.VALID: {"v": 1}, Split.TEST: {"u": 3}}


@settings(max_examples=30, deadline=None)
@given(
    gap=st.floats(0, 5),
    days=st.lists(st.floats(0, 14), min_size=1, max_size=8),
    users=st.lists(st.sampled_from("uv"), min_size=8, max_size=8),
)
def test_no_history_reaches_into_the_gap(tmp_path_factory, gap, days, users):
    path = tmp_path_factory.mktemp("logs") / "log.parquet"
    table = [r for n, (d, u) in enumerate(zip(days, users, strict=False)) for r in rows(f"x{n}", "ab", "01", d, u)]
    edges = [*rows("s1", "abc", "010", 3), *rows("s2", "abc", "010", 9, "v"), *rows("s3", "abc", "010", 13, "v")]
    log = read_log(write(path, table + edges), Columns(), CORPUS)
    for slate in slates_of(log, CORPUS, config(gap_days=gap), k=2, history_cap=9).slates.slates:
        timeline = CORPUS.by_user[slate.user_id]
        end = slate.time - gap * DAY
        assert slate.history == tuple(i for i, t in zip(timeline.item_ids, timeline.times, strict=True) if t < end)
        learned = [t for t, s in zip(timeline.times, timeline.splits, strict=True) if s is Split.TRAIN]
        assert slate.split is Split.TRAIN or all(t < end for t in learned)


def test_days_are_shared_out_whole(tmp_path):
    """Ten days with slates, of which one is for validation and two are for testing, however many slates a day has."""
    days = [0, 0.1, 0.2, 1, 2, 3, 4, 5, 7, 8, 9, 9.9, 10.5]
    table = [row for n, day in enumerate(days) for row in rows(f"s{n}", "ab", "01", day)]
    log = read_log(write(tmp_path / "log.parquet", table), Columns(), CORPUS)
    assert boundaries(log, LogConfig(path="x", valid_share=0.1, test_share=0.2)) == (8 * DAY, 9 * DAY)
    assert boundaries(log, LogConfig(path="x", valid_share=0.01, test_share=0.01)) == (9 * DAY, 10 * DAY)
    with pytest.raises(UserError, match=r"its 2 days are too few to share out; set \[slates.log\] valid_from"):
        boundaries(log.filter(pl.col("time") < 1.5 * DAY), LogConfig(path="x"))


def test_an_empty_split_says_what_became_of_its_slates(tmp_path):
    table = [*rows("s1", "abc", "010", day=3), *rows("s2", "abc", "010", day=6), *rows("s3", "abc", "000", day=12)]
    log = read_log(write(tmp_path / "log.parquet", table), Columns(), CORPUS)
    with pytest.raises(UserError, match=r"log.parquet: no test slate is left of 3 \(1 no_positive\)"):
        slates_of(log, CORPUS, config(), k=3, history_cap=9)


def spoilt(row: int, **values) -> list[dict]:
    return [{**r, **(values if n == row else {})} for n, r in enumerate(THREE)]


@pytest.mark.parametrize("name", ["log.parquet", "log.csv"])
@pytest.mark.parametrize(
    ("row", "values", "message"),
    [
        (1, {"item_id": "z"}, "item 'z' is not in the corpus; add it there"),
        (1, {"user_id": "w"}, "user 'w' is not in the corpus; add its events"),
        (1, {"user_id": None}, "no user id; fill it in"),
        (1, {"user_id": "v"}, "slate 's1' has another user above"),
        (1, {"time": 5}, "slate 's1' has another time above"),
        (1, {"time": -1}, "time is negative"),
        (1, {"time": 1_700_000_000_000}, "time is 1700000000000, which is no time in seconds; divide milliseconds"),
        (1, {"time": None}, "time holds None; give a whole number"),
        (1, {"position": 1}, "slate 's1' has position 1 twice"),
        (1, {"position": 7}, "slate 's1' has nothing just before position 7"),
        (1, {"position": None}, "position holds None"),
        (1, {"item_id": "a"}, "slate 's1' shows item 'a' twice"),
        (1, {"click": 2}, "give 0 or 1"),
        (1, {"conversion": None}, "conversion holds None; give 0 or 1"),
        (0, {"conversion": 1}, "a conversion without a click"),
        (1, {"score": None}, "score holds None; give a number"),
        (1, {"score": float("nan")}, "give a number"),
    ],
)
def test_a_bad_row_is_named(tmp_path, name, row, values, message):
    path = write(tmp_path / name, spoilt(row, **values))
    with pytest.raises(UserError) as error:
        read_log(path, Columns(), CORPUS)
    text = str(error.value)
    assert message in text
    assert "; " in text
    assert "\n" not in text
    # the file's first row is row 1 of Parquet and, below the header, line 2 of CSV
    assert text.startswith(f"{path}, row {row + 1}: " if name.endswith("parquet") else f"{path}, line {row + 2}: ")


def test_one_slate_from_0_among_others_from_1_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="row 2: slate 's1' has nothing just before position 2, and places are from 0 on"
    ):
        read_log(write(tmp_path / "log.parquet", spoilt(0, position=0)), Columns(), CORPUS)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a,b\n1,2\n", Columns(), "no column 'slate_id', only a, b; set [slates.log.columns] slate to"),
        (
            "slate_id,user_id,item_id,position,click,time,score\n",
            Columns(),
            "no column 'conversion', only slate_id, user_id, item_id, position, click, time, score; set "
            '[slates.log.columns] conversion to the name of yours or to ""',
        ),
        ("slate_id,user_id,item_id,position,click,time\n", NO_SCORES, "holds no rows; give a log"),
        ("", Columns(), "unreadable (empty CSV)"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, columns, message):
    path = tmp_path / "log.csv"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_log(path, columns, CORPUS)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_other_bad_files(tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"PAR1 half")
    for name, message in (("log.parquet", "unreadable"), ("log.tsv", "must end in"), ("none.csv", "no such file")):
        with pytest.raises(UserError, match=message):
            read_log(tmp_path / name, Columns(), CORPUS)
    floats = [{**row, "slate_id": 1.5} for row in THREE]
    with pytest.raises(UserError, match="column 'slate_id' holds Float64, no ids"):
        read_log(write(tmp_path / "floats.parquet", floats), Columns(), CORPUS)
    with pytest.raises(UserError, match="no slate has a place before 2; count from 0 or 1"):
        read_log(
            write(tmp_path / "from_2.parquet", [{**r, "position": r["position"] + 1} for r in THREE]), Columns(), CORPUS
        )


def test_milliseconds_beside_seconds_are_found(tmp_path):
    table = [{**row, "time": row["time"] * 1000} for row in THREE]
    with pytest.raises(UserError, match="give both in seconds of one origin"):
        read_log(write(tmp_path / "log.parquet", table), Columns(), CORPUS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid_from": None}, "go together"),
        ({"valid_from": 5, "test_from": 5}, "must be before"),
        ({"valid_share": 0.5, "test_share": 0.5}, "leave no days for training"),
    ],
)
def test_bad_boundaries(changes, message):
    with pytest.raises(ValidationError, match=message):
        config(**changes)
