import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gr2.artifacts import SemanticIds
from gr2.errors import UserError
from gr2.sid.assign import nearest_codes, unique_codes
from gr2.sid.new_items import HORIZON_DAYS, Catalogue, assign, main, retire, staleness

DAY = 86_400


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def catalogue_of(vectors: np.ndarray, books: list[np.ndarray]) -> Catalogue:
    codes = unique_codes(vectors, nearest_codes(vectors, books), books)
    ids = SemanticIds(
        item_ids=tuple(f"old{i}" for i in range(len(vectors))),
        codes=codes,
        codebook_sizes=tuple(len(book) for book in books),
        codebooks=tuple(books),
    )
    return Catalogue(ids=ids)


def small() -> Catalogue:
    # ids 00 -> 0, 01 -> 1, 10 -> 10, 11 -> 11; old items at 0 and 11
    return catalogue_of(column(0, 11), [column(0, 10), column(0, 1)])


def test_a_new_item_takes_the_nearest_free_id():
    after = assign(small(), ["b", "a"], column(10.2, 0.1), now=0)
    assert after.ids.of["b"].codes == (1, 0)
    assert after.ids.of["a"].codes == (0, 1)  # (0, 0) is old0's
    assert after.ids.item_ids == ("old0", "old1", "b", "a")


def test_a_retired_id_rests_for_the_horizon():
    resting = retire(small(), ["old0"], now=0)
    assert resting.ids.item_ids == ("old1",)
    soon = assign(resting, ["a"], column(0), now=HORIZON_DAYS * DAY)
    assert soon.ids.of["a"].codes == (0, 1)
    later = assign(resting, ["a"], column(0), now=HORIZON_DAYS * DAY + 1)
    assert later.ids.of["a"].codes == (0, 0)
    assert later.retired == ()


def test_a_retired_item_that_comes_back_gets_its_own_id():
    back = assign(retire(small(), ["old0"], now=0), ["a", "old0"], column(0, 10.4), now=DAY)
    assert back.ids.of["old0"].codes == (0, 0)
    assert back.retired == ()


def test_ids_that_rest_count_against_the_code_space():
    resting = retire(small(), ["old0"], now=0)
    assert len(assign(resting, ["a", "b"], column(0, 0), now=DAY).ids.item_ids) == 3
    with pytest.raises(UserError, match="make 4 ids for 5 items"):
        assign(resting, ["a", "b", "c"], column(0, 0, 0), now=DAY)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=5))
def test_ids_given_never_change_and_never_come_twice(seed, waves):
    rng = np.random.default_rng(seed)
    books = [rng.normal(size=(4, 2)).astype(np.float32) for _ in range(3)]
    now = catalogue_of(rng.normal(size=(10, 2)).astype(np.float32), books)
    ever = dict(now.ids.of)
    for wave, (come, go) in enumerate(waves):
        now = retire(now, now.ids.item_ids[:go], now=wave * DAY)
        names = [f"{wave}-{i}" for i in range(come)]
        now = assign(now, names, np.zeros((come, 2), dtype=np.float32), now=wave * DAY)
        ever |= {name: now.ids.of[name] for name in names}
        assert all(now.ids.of[item_id] == ever[item_id] for item_id in now.ids.item_ids)
        assert len({sid.codes for sid in ever.values()}) == len(ever)


def test_blind_to_the_order_of_the_new_items():
    rng = np.random.default_rng(0)
    books = [rng.normal(size=(3, 2)).astype(np.float32) for _ in range(3)]
    old, vectors = catalogue_of(rng.normal(size=(9, 2)).astype(np.float32), books), np.zeros((8, 2), dtype=np.float32)
    names = [f"n{i}" for i in range(8)]
    turned = assign(old, names[::-1], vectors, now=0).ids.of
    assert turned == assign(old, names, vectors, now=0).ids.of


def test_staleness_worked_out_by_hand():
    books = [column(0, 10), column(0, 1)]
    # errors of the old: .1^2 twice; of the new: .2^2 and .4^2, mean .1, sd .0849, 1.96 sd / sqrt 2 = .1176
    told = staleness(column(0.1, 10.1), column(0.2, 10.4), books)
    assert told.error_old == pytest.approx(0.01, rel=1e-4)
    assert told.error_new == pytest.approx((0.04 + 0.16) / 2, rel=1e-4)
    assert told.ratio == pytest.approx(10, rel=1e-4)
    assert told.low == 0
    assert not told.stale
    far = staleness(column(0.1, 10.1), column(*np.linspace(5, 5.2, 40)), books)
    assert far.stale
    assert far.low < far.ratio
    assert not staleness(column(0.1, 10.1), column(50), books).stale  # one item is no evidence


@pytest.mark.parametrize(
    ("names", "vectors", "reason"),
    [
        (["old0"], column(0), "row 0: old0 has a semantic id already"),
        (["a", "a"], column(0, 0), "row 1: a has"),
        (["a"], np.zeros((1, 2)), "codebooks of 1 numbers"),
        (["a"], column(np.inf), "row 0: NaN or infinity"),
    ],
)
def test_bad_input(names, vectors, reason):
    with pytest.raises(UserError, match=reason):
        assign(small(), names, vectors, now=0)


def test_retiring_what_has_no_id():
    with pytest.raises(UserError, match="x has no semantic id"):
        retire(small(), ["x"], now=0)


def test_command(tmp_path):
    import typer

    app = typer.Typer()
    app.command()(main)
    (tmp_path / "ids").mkdir()
    small().ids.save(tmp_path / "ids")
    for name, ids, vectors in (("new", ["a"], column(0.1)), ("old", ["old0", "old1"], column(0, 11))):
        pl.DataFrame({"item_id": ids, "vector": vectors}).write_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / "gone.txt").write_text("old1\n")
    arguments = [str(tmp_path / name) for name in ("ids", "new.parquet", "old.parquet", "out")]
    arguments += ["--retired", str(tmp_path / "gone.txt")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    after = Catalogue.load(tmp_path / "out")
    assert after.ids.item_ids == ("old0", "a")
    assert [r.item_id for r in after.retired] == ["old1"]
    assert json.loads((tmp_path / "out" / "staleness.json").read_text())["stale"] is False
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "is there already" in again.output


def test_a_spoilt_table_of_retired_ids(tmp_path):
    small().save(tmp_path)
    (tmp_path / "retired.parquet").write_bytes(b"half")
    with pytest.raises(UserError, match=r"retired\.parquet: unreadable"):
        Catalogue.load(tmp_path)
