import numpy as np
import polars as pl
import pytest

from gr2.errors import UserError
from gr2.sid.matrix import read_matrix

IDS = ["a", "b", "c"]
VECTORS = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float64)


def npy(folder, array):
    np.save(folder / "v.npy", array)
    return folder / "v.npy"


def parquet(folder, **columns):
    pl.DataFrame(columns).write_parquet(folder / "v.parquet")
    return folder / "v.parquet"


def test_npy_is_taken_as_it_is(tmp_path):
    matrix = read_matrix(npy(tmp_path, VECTORS), IDS)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == VECTORS.tolist()


def test_parquet_is_matched_by_id(tmp_path):
    path = parquet(tmp_path, item_id=["c", "x", "a", "b"], vector=[[5.0, 6.0], [0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    assert read_matrix(path, IDS).tolist() == VECTORS.tolist()
    numbered = parquet(tmp_path, item_id=[2, 1], vector=[[5.0, 6.0], [1.0, 2.0]])
    assert read_matrix(numbered, ["1", "2"]).tolist() == [[1, 2], [5, 6]]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (VECTORS[:2], r"shape \(2, 2\) for 3 items; give one row an item"),
        (VECTORS[:, :0], r"shape \(3, 0\) for 3 items"),
        (VECTORS[:, 0], "no table of numbers"),
        (np.array([["x"], ["y"], ["z"]]), "no table of numbers"),
        (np.array([{"a": 1}, {}, {}], dtype=object), "not a .npy file"),
        (np.where(VECTORS == 4, np.nan, VECTORS), r"item 'b' holds NaN or infinity; mend it \(1 so\)"),
        (np.where(VECTORS > 4, np.inf, VECTORS), "item 'c' holds NaN or infinity"),
        (np.ones((3, 2)), "all 3 vectors are equal"),
    ],
)
def test_bad_npy(tmp_path, array, told):
    with pytest.raises(UserError, match=told):
        read_matrix(npy(tmp_path, array), IDS)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a"], "vector": [[1.0]]}, "no column 'item_id'"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [2.0]]}, r"no row for item 'c' \(1 are missing\)"),
        ({"item_id": ["a", "b", "c", "c"], "vector": [[1.0]] * 4}, "stands there twice"),
        ({"item_id": IDS, "vector": [[1.0], [1.0, 2.0], [1.0]]}, "lists of numbers of one length"),
        ({"item_id": IDS, "vector": ["x", "y", "z"]}, "lists of numbers"),
        ({"item_id": IDS, "vector": [1.0, 2.0, 3.0]}, "lists of numbers"),
        ({"item_id": IDS, "vector": [[1.0, None], [1.0, 2.0], [1.0, 2.0]]}, "item 'a' holds NaN"),
    ],
)
def test_bad_parquet(tmp_path, columns, told):
    with pytest.raises(UserError, match=told):
        read_matrix(parquet(tmp_path, **columns), IDS)


def test_absent_and_spoilt_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_matrix(tmp_path / "v.npy", IDS)
    for name in ("v.npy", "v.parquet"):
        (tmp_path / name).write_bytes(b"half a file")
        with pytest.raises(UserError, match=r"not a .npy file|unreadable"):
            read_matrix(tmp_path / name, IDS)


def test_one_item(tmp_path):
    assert read_matrix(npy(tmp_path, np.zeros((1, 2))), ["a"]).tolist() == [[0, 0]]
