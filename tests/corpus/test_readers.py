import gzip
import json

import polars as pl
import pytest

from gr2.corpus.generic import read_items, read_log
from gr2.errors import UserError
from gr2.types import Item

ITEMS = [
    {"item_id": 1, "title": "Nail  Lacquer\n", "categories": [["Beauty", "Nails"], ["Gifts"]], "brand": "OPI"},
    {"item_id": 2, "title": None, "categories": [], "text_id": "red shatter", "brand": None},
    {"item_id": "x", "title": "Shampoo", "year": 1999},
]
READ = (
    Item(item_id="1", title="Nail Lacquer", categories=("Beauty", "Nails"), brand="OPI"),
    Item(item_id="2", title="red shatter"),
    Item(item_id="x", title="Shampoo", year=1999),
)


def write(path, content):
    """JSON lines of a list, else the text itself; gzipped by name."""
    if isinstance(content, list):
        content = "".join(json.dumps(row) + "\n" for row in content)
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["items.jsonl", "items.jsonl.gz"])
def test_items_jsonl(tmp_path, name):
    assert read_items(write(tmp_path / name, ITEMS)) == READ


def test_items_csv(tmp_path):
    text = "item_id,title,categories,brand,year,text_id\n1,Nail Lacquer,Beauty > Nails,OPI,,\n2,,[],,,red shatter\n"
    path = write(tmp_path / "items.csv", text + 'x,Shampoo,,,1999.0,\n"y","A, ""b""","[""C""]",,,\n')
    assert read_items(path) == (*READ, Item(item_id="y", title='A, "b"', categories=("C",)))


def test_items_parquet(tmp_path):
    pl.DataFrame(
        {"item_id": [1, 2], "title": ["a", None], "categories": [["A", "B"], None], "year": [1.0, None]}
    ).with_columns(pl.lit("t").alias("text_id")).write_parquet(tmp_path / "items.parquet")
    assert read_items(tmp_path / "items.parquet") == (
        Item(item_id="1", title="a", categories=("A", "B"), year=1),
        Item(item_id="2", title="t"),
    )


def test_an_item_without_any_name_is_untitled(tmp_path):
    assert read_items(write(tmp_path / "i.jsonl", [{"item_id": 1, "title": " "}]))[0].title == "untitled"


@pytest.mark.parametrize(
    ("rows", "log"),
    [
        ([{"user_id": 7, "items": [1, "x", 1], "timestamps": [5, 5, 9]}], {"7": [("1", 5), ("x", 5), ("1", 9)]}),
        ([{"user_id": "u", "items": [2, 1], "seconds_since_first": [0, 60]}], {"u": [("2", 0), ("1", 60)]}),
        ([{"user_id": "u", "items": [2, 1]}], {"u": [("2", 0), ("1", 1)]}),
        # an event log is sorted by time; events of one time keep the file's order
        (
            [
                {"user_id": "b", "item_id": 2, "timestamp": 9},
                {"user_id": "a", "item_id": 1, "timestamp": 3},
                {"user_id": "b", "item_id": "x", "timestamp": 4},
                {"user_id": "b", "item_id": 1, "timestamp": 9},
            ],
            {"b": [("x", 4), ("2", 9), ("1", 9)], "a": [("1", 3)]},
        ),
    ],
)
def test_logs(tmp_path, rows, log):
    assert read_log(write(tmp_path / "log.jsonl", rows), READ) == log
    pl.DataFrame(rows, strict=False).write_parquet(tmp_path / "log.parquet")
    if "item_id" not in rows[0] and all(isinstance(i, int) for i in rows[0]["items"]):
        assert read_log(tmp_path / "log.parquet", READ) == log


def test_logs_csv(tmp_path):
    path = write(tmp_path / "log.csv.gz", "user_id,item_id,timestamp\nu,x,5\nu,1,4\n")
    assert read_log(path, READ) == {"u": [("1", 4), ("x", 5)]}
    path = write(tmp_path / "sequences.csv", 'user_id,items,timestamps\nu,"[1, ""x""]","[3, 4]"\n')
    assert read_log(path, READ) == {"u": [("1", 3), ("x", 4)]}


BAD_ITEMS = [
    ("i.jsonl", [{"title": "a"}], "i.jsonl, line 1: no column 'item_id', only title; add it"),
    ("i.jsonl", [{"item_id": 1, "name": "a"}], "line 1: no column 'text_id', only item_id, name; add it"),
    ("i.csv", "id,title\n1,a\n", "i.csv, line 2: no column 'item_id', only id, title; add it"),
    (
        "i.jsonl",
        [{"item_id": 1, "title": "a"}, {"item_id": "1", "title": "b"}],
        "line 2: item_id '1' stands there twice",
    ),
    ("i.jsonl", [{"item_id": None, "title": "a"}], "line 1: item_id holds None, which is no id"),
    ("i.jsonl", [{"item_id": "half \ud83d", "title": "a"}], r"item_id holds 'half \\ud83d', which is no id"),
    ("i.jsonl", [{"item_id": True, "title": "a"}], "line 1: item_id holds True, which is no id"),
    ("i.csv", "item_id,title\n,a\n", "line 2: item_id holds None, which is no id"),
    ("i.jsonl", [{"item_id": 1, "title": "a", "year": "soon"}], "line 1: year holds 'soon'; give a whole number"),
    ("i.jsonl", [{"item_id": 1, "title": "a", "year": 1999.5}], "line 1: year holds 1999.5; give a whole number"),
    ("i.jsonl", [{"item_id": 1, "title": "a", "categories": 3}], "line 1: categories holds 3; give a list"),
    (
        "i.jsonl",
        '{"item_id": 1, "title": "a"}\n{"item_id": 2,\n',
        "i.jsonl, line 2: not JSON .*; mend or remove the line",
    ),
    ("i.jsonl", "[1, 2]\n", "line 1: not a JSON object"),
    ("i.csv", "item_id,title\n1,a,b\n", "line 2: not 2 cells as in the header"),
    ("i.csv", "item_id,title\n1,a\n2\n", "line 3: not 2 cells as in the header"),
    ("i.csv", 'item_id,title\n1,"a\n', "line 2: not CSV"),
    ("i.jsonl", "", "i.jsonl: holds no rows"),
    ("i.csv", "item_id,title\n", "i.csv: holds no rows"),
    ("i.parquet", "no parquet", "i.parquet: unreadable"),
    ("i.txt", "item_id", "i.txt: not a file that can be read; its name must end in .jsonl"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_ITEMS)
def test_bad_items(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read_items(write(tmp_path / name, content))
    assert "\n" not in str(caught.value)


def test_bad_bytes(tmp_path):
    (tmp_path / "i.jsonl").write_bytes(b'{"item_id": 1, "title": "\xff"}\n')
    with pytest.raises(UserError, match="not UTF-8"):
        read_items(tmp_path / "i.jsonl")
    (tmp_path / "i.jsonl.gz").write_bytes(gzip.compress(b'{"item_id": 1, "title": "a"}\n')[:-12])
    with pytest.raises(UserError, match=r"i.jsonl.gz: unreadable"):
        read_items(tmp_path / "i.jsonl.gz")
    with pytest.raises(UserError, match=r"gone.csv: no such file"):
        read_items(tmp_path / "gone.csv")


BAD_LOGS = [
    ([{"user_id": 1, "items": [1, 3]}], "l.jsonl, line 1: item '3' is not in the items file; add it there or remove"),
    ([{"user_id": 1, "item_id": 3, "timestamp": 1}], "line 1: item '3' is not in the items file"),
    ([{"user_id": 1, "items": []}], "line 1: user 1 has no events; remove the row"),
    ([{"user_id": " ", "items": [1]}], "line 1: user_id holds ' ', which is no id"),
    ([{"user_id": None, "item_id": 1, "timestamp": 1}], "line 1: user_id holds None, which is no id"),
    ([{"items": [1]}], "line 1: no column 'user_id', only items"),
    ([{"user_id": 1, "items": [1]}, {"user_id": 1, "items": [2]}], "line 2: user_id '1' stands there twice"),
    ([{"user_id": 1, "items": "1 2"}], r"line 1: items holds '1 2'; give a list such as \[1, 2\]"),
    ([{"user_id": 1, "item_id": 1}], "line 1: no column 'timestamp', only user_id, item_id"),
    ([{"user_id": 1, "item": 1, "timestamp": 1}], "line 1: no column 'item_id', only user_id, item, timestamp"),
    ([{"user_id": 1, "item_id": 1, "timestamp": -5}], r"line 1: timestamp is negative \(-5\)"),
    ([{"user_id": 1, "item_id": 1, "timestamp": 1_700_000_000_000}], "line 1: timestamp is 1700000000000, which is no"),
    ([{"user_id": 1, "item_id": 1, "timestamp": 1_700_000_000_000_000_001}], "divide milliseconds by 1000"),
    ([{"user_id": 1, "item_id": 1, "timestamp": "2020-01-01"}], "line 1: timestamp holds '2020-01-01'; give a whole"),
    ([{"user_id": 1, "item_id": 1, "timestamp": None}], "line 1: timestamp holds None; give a whole number"),
    ([{"user_id": 1, "items": [1, 2], "timestamps": [5, 4]}], "line 1: timestamps decrease at event 2; sort"),
    ([{"user_id": 1, "items": [1, 2], "timestamps": [-1, 4]}], r"line 1: timestamps is negative \(-1\)"),
    ([{"user_id": 1, "items": [1, 2], "timestamps": [4]}], "line 1: 2 items but 1 timestamps; give one time an item"),
]


@pytest.mark.parametrize(("rows", "message"), BAD_LOGS)
def test_bad_logs(tmp_path, rows, message):
    with pytest.raises(UserError, match=message) as caught:
        read_log(write(tmp_path / "l.jsonl", rows), READ)
    assert "\n" not in str(caught.value)


def test_half_an_emoji_is_no_letter(tmp_path):
    """As programs that cut text by 16-bit units leave it; such a title could not be written to any file."""
    (tmp_path / "i.jsonl").write_text('{"item_id": 1, "title": "cut \\ud83d", "categories": ["\\ud83d x"]}\n')
    (item,) = read_items(tmp_path / "i.jsonl")
    assert (item.title, item.categories) == ("cut ?", ("? x",))


def test_parquet_errors_name_the_row(tmp_path):
    pl.DataFrame({"user_id": [1, 1], "item_id": [1, 9], "timestamp": [1, 2]}).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(UserError, match=r"l\.parquet, row 2: item '9'"):
        read_log(tmp_path / "l.parquet", READ)
