"""Unique ids for a partitioned Parquet folder on a Ray cluster: stream.py's steps, a first code a task (ours).

`python -m gr2.sid.ray_data RUN/02_sids ITEMS OUT`; needs `pip install 'gr2[ray]'`. ITEMS holds `item_id` and `vector`,
in the space of the run's codebooks.
"""

import os
import shutil
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import typer

from gr2.artifacts import SemanticIds
from gr2.errors import UserError
from gr2.sid.assign import check_room, nearest_codes, spill, unique_codes

Books = Sequence[np.ndarray]
BAD = -1
"""In place of the first code of a vector that is none."""


def assign_folder(source: Path, target: Path, codebooks: Books) -> int:
    """Write the folder `target`: `item_id` and `codes` (a list of L) of every row of `source`, all distinct; the count.

    Blind to the order of the rows and to the number of workers: within a first code, ties go by item id. A worker holds
    the vectors of one first code; the driver only those of first codes that hold too many. Raises UserError when a
    vector is not D finite numbers, there are more items than ids, or fewer than two codebooks.
    """
    sizes = [len(book) for book in codebooks]
    if len(sizes) < 2:
        raise UserError(f"[sids] codebook_sizes {sizes}: a first code a task needs two levels or more; give one more")
    items = ray.data.read_parquet(str(source), columns=["item_id", "vector"])
    coded = items.map_batches(_first, batch_format="pyarrow", fn_kwargs={"book": codebooks[0]})
    count = {row["first"]: row["count()"] for row in coded.groupby("first").count().take_all()}
    if count.get(BAD):
        raise UserError(f"{source}: {count[BAD]} vectors are not {codebooks[0].shape[1]} finite numbers; mend them")
    check_room(sum(count.values()), sizes)
    moved = _make_room(coded, np.array([count.get(first, 0) for first in range(sizes[0])]), codebooks)
    coded = coded.map_batches(_move, batch_format="pyarrow", fn_kwargs={"moved": moved})
    done = coded.groupby("first").map_groups(_settle, batch_format="pyarrow", fn_kwargs={"codebooks": codebooks})
    aside = target.with_name(target.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    done.write_parquet(str(aside))
    os.replace(aside, target)
    return sum(count.values())


def _first(table: pa.Table, book: np.ndarray) -> pa.Table:
    """With the nearest first code of each row."""
    first = np.full(len(table), BAD, dtype=np.int64)
    fits = np.asarray(pc.fill_null(pc.list_value_length(table["vector"]), 0)) == book.shape[1]
    vectors = _vectors(table.filter(pa.array(fits)))
    finite = np.isfinite(vectors).all(axis=1)
    first[np.flatnonzero(fits)[finite]] = nearest_codes(vectors[finite], [book])[:, 0]
    return table.append_column("first", pa.array(first))


def _make_room(coded: "ray.data.Dataset", count: np.ndarray, codebooks: Books) -> dict[str, int]:
    """Item id -> its new first code, of the items that do not fit below their nearest one."""
    room = prod(len(book) for book in codebooks[1:])
    full = np.flatnonzero(count > room)
    if not len(full):
        return {}
    crowded = coded.map_batches(_of_codes, batch_format="pyarrow", fn_kwargs={"first": full})
    table = pa.concat_tables(crowded.iter_batches(batch_format="pyarrow", batch_size=None)).sort_by("item_id")
    wanted = table["first"].to_numpy()
    given = spill(_vectors(table), wanted, codebooks[0], np.where(count > room, room, room - count))
    names = table["item_id"].to_pylist()
    return {names[i]: int(given[i]) for i in np.flatnonzero(given != wanted)}


def _of_codes(table: pa.Table, first: np.ndarray) -> pa.Table:
    return table.filter(pc.is_in(table["first"], value_set=pa.array(first)))


def _move(table: pa.Table, moved: dict[str, int]) -> pa.Table:
    ids, first = table["item_id"].to_pylist(), table["first"].to_pylist()
    now = [moved.get(item_id, code) for item_id, code in zip(ids, first, strict=True)]
    return table.set_column(table.schema.get_field_index("first"), "first", pa.array(now, pa.int64()))


def _settle(table: pa.Table, codebooks: Books) -> pa.Table:
    """Ids of all items of one first code."""
    table = table.sort_by("item_id")
    first = table["first"].to_numpy()
    left = _vectors(table) - codebooks[0][first]
    below = unique_codes(left, nearest_codes(left, codebooks[1:]), codebooks[1:])
    codes = np.concatenate([first[:, None], below], axis=1)
    return pa.table({"item_id": table["item_id"], "codes": pa.array(codes.tolist(), pa.list_(pa.int64()))})


def _vectors(table: pa.Table) -> np.ndarray:
    """(n, D) float32 of lists of D numbers."""
    column = table["vector"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(table), -1)


def main(ids: Path, items: Path, out: Path) -> None:
    """Write the folder `out`, ids for all rows of the folder `items`, by the codebooks of the folder `ids`."""
    try:
        n = assign_folder(items, out, SemanticIds.load(ids).codebooks)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{n} ids")


if __name__ == "__main__":
    typer.run(main)
