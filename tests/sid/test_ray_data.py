import numpy as np
import polars as pl
import pytest

from gr2.errors import UserError
from gr2.sid.stream import assign_parquet

ray = pytest.importorskip("ray")
ray_data = pytest.importorskip("gr2.sid.ray_data")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def write(folder, ids, vectors):
    """Two parts, as a folder."""
    folder.mkdir()
    for part, rows in enumerate(np.array_split(np.arange(len(ids)), 2)):
        table = {"item_id": [ids[i] for i in rows], "vector": [vectors[i] for i in rows]}
        pl.DataFrame(table).write_parquet(folder / f"{part}.parquet")


@pytest.mark.parametrize("sizes", [(4, 3, 3), (4, 8, 8)])
def test_gives_the_ids_of_the_stream_whatever_the_order(tmp_path, sizes):
    rng = np.random.default_rng(0)
    # 30 items of 5 kinds around one first code: with 9 ids below each first code most must leave it
    vectors = rng.normal(size=(5, 3)).astype(np.float32)[rng.integers(0, 5, 30)]
    books = [rng.normal(size=(size, 3)).astype(np.float32) for size in sizes]
    ids = [f"i{k:02d}" for k in range(30)]
    write(tmp_path / "items", ids, vectors.tolist())
    assign_parquet(tmp_path / "items", tmp_path / "ids.parquet", books)
    order = rng.permutation(30)
    write(tmp_path / "shuffled", [ids[i] for i in order], vectors[order].tolist())
    assert ray_data.assign_folder(tmp_path / "shuffled", tmp_path / "out", books) == 30
    found = pl.read_parquet(tmp_path / "out").sort("item_id")
    expected = pl.read_parquet(tmp_path / "ids.parquet")
    assert found["item_id"].to_list() == ids
    assert found["codes"].to_list() == expected["codes"].to_list()
    assert len(set(map(tuple, found["codes"].to_list()))) == 30


def test_bad_vectors_are_counted_and_nothing_is_written(tmp_path):
    write(tmp_path / "items", list("abcd"), [[1.0], [float("nan")], [1.0, 2.0], [2.0]])
    books = [np.array([[0.0], [1.0]], dtype=np.float32)] * 2
    with pytest.raises(UserError, match="2 vectors are not 1 finite numbers"):
        ray_data.assign_folder(tmp_path / "items", tmp_path / "out", books)
    assert [p.name for p in tmp_path.iterdir()] == ["items"]
