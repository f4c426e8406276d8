import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.errors import UserError
from gr2.sid.assign import nearest_codes, reconstruct, unique_codes
from gr2.sid.stream import assign_parquet


def write(path, vectors):
    pl.DataFrame({"item_id": [f"i{k}" for k in range(len(vectors))], "vector": vectors}).write_parquet(path)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(2, 3), (3, 2, 2), (4, 4)]), st.integers(1, 6), st.data())
def test_gives_the_ids_that_unique_codes_gives(tmp_path_factory, seed, sizes, distinct, data):
    n = data.draw(st.integers(1, int(np.prod(sizes))))
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(distinct, 3)).astype(np.float32)[rng.integers(0, distinct, n)]
    books = [rng.normal(size=(size, 3)).astype(np.float32) for size in sizes]
    folder = tmp_path_factory.mktemp("stream")
    write(folder / "items.parquet", vectors)
    done = assign_parquet(folder / "items.parquet", folder / "ids.parquet", books)
    wanted = nearest_codes(vectors, books)
    expected = unique_codes(vectors, wanted, books)
    table = pl.read_parquet(folder / "ids.parquet")
    assert table["codes"].to_numpy().tolist() == expected.tolist()
    assert table["item_id"].to_list() == [f"i{k}" for k in range(n)]
    assert (done.n_items, done.moved) == (n, int((wanted != expected).any(axis=1).sum()))
    assert done.error == pytest.approx(((vectors - reconstruct(expected, books)) ** 2).sum(axis=1).mean(), rel=1e-4)
    assert done.error_before == pytest.approx(((vectors - reconstruct(wanted, books)) ** 2).sum(1).mean(), rel=1e-4)
    assert sorted(p.name for p in folder.iterdir()) == ["ids.parquet", "items.parquet"]


def test_a_folder_of_parts_and_lists_instead_of_arrays(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    books = [vectors[:4], 0.3 * vectors[4:24]]
    (tmp_path / "parts").mkdir()
    for part in range(2):
        rows = vectors[part * 25 : (part + 1) * 25].tolist()
        ids = list(range(part * 25, (part + 1) * 25))
        pl.DataFrame({"item_id": ids, "vector": rows}).write_parquet(tmp_path / "parts" / f"{part}.parquet")
    assign_parquet(tmp_path / "parts", tmp_path / "ids.parquet", books)
    expected = unique_codes(vectors, nearest_codes(vectors, books), books)
    assert pl.read_parquet(tmp_path / "ids.parquet")["codes"].to_list() == expected.tolist()


@pytest.mark.parametrize(
    ("table", "sizes", "reason"),
    [
        ({"item_id": ["a"], "vector": [[1.0, 2.0]]}, (2, 2), "vectors of 2 numbers, codebooks of 1"),
        ({"item_id": ["a"]}, (2, 2), "no column vector"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [float("nan")]]}, (2, 2), "row 1: NaN"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, (2, 2), "not all 1 numbers"),
        ({"item_id": list("abcde"), "vector": [[1.0]] * 5}, (2, 2), "make 4 ids for 5 items"),
        ({"item_id": ["a"], "vector": [[1.0]]}, (2,), "two levels or more"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, table, sizes, reason):
    pl.DataFrame(table).write_parquet(tmp_path / "items.parquet")
    books = [np.arange(size, dtype=np.float32)[:, None] for size in sizes]
    with pytest.raises(UserError, match=reason) as error:
        assign_parquet(tmp_path / "items.parquet", tmp_path / "ids.parquet", books)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["items.parquet"]


def test_an_unreadable_file_is_a_user_error(tmp_path):
    (tmp_path / "items.parquet").write_bytes(b"half")
    for name in ("items.parquet", "absent.parquet"):
        with pytest.raises(UserError, match="not a readable Parquet table"):
            assign_parquet(tmp_path / name, tmp_path / "ids.parquet", [np.zeros((2, 1)), np.zeros((2, 1))])
