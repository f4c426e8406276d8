"""Unique ids for a catalogue on disk: Parquet in, Parquet out, one first code's items in memory at a time (ours).

Once no first code holds more items than there are ids below it, first codes have nothing to do with each other. So the
vectors are parted on disk by first code while the source streams by, and assign.py then settles part after part.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from gr2.errors import UserError
from gr2.progress import track
from gr2.sid.assign import check_finite, check_room, nearest_codes, reconstruct, spill, unique_codes

CHUNK = 65_536
"""Rows read at once."""


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """What `assign_parquet` did with N items."""

    n_items: int
    moved: int
    """Items whose id the repair changed."""
    error_before: float
    """Mean squared distance of the vectors to their codes' sums, each item with its nearest codes."""
    error: float
    """The same with the unique ids."""


def assign_parquet(source: Path, target: Path, codebooks: Sequence[np.ndarray]) -> Streamed:
    """Write `target`: `item_id` and `codes` (a list of L) of every row of `source`, in its order, all ids distinct.

    `source` is a Parquet file, or a folder of them, with `item_id` and `vector` (D numbers). Needs disk beside `target`
    for N x D float32, and memory for the N x L codes and the vectors of the largest first code. The ids are those that
    `unique_codes` gives. Raises UserError when columns are missing, a vector is not finite or of another length, there
    are more items than ids, or fewer than two codebooks.
    """
    sizes = [len(book) for book in codebooks]
    if len(sizes) < 2:
        raise UserError(f"[sids] codebook_sizes {sizes}: streaming needs two levels or more; give one more")
    with TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.parts.") as name:
        parts = [_Part(Path(name), first) for first in range(sizes[0])]
        n = _part(source, codebooks[0], parts)
        check_room(n, sizes)
        astray = _make_room(parts, codebooks[0], prod(sizes[1:]))
        codes = np.zeros((n, len(sizes)), dtype=np.min_scalar_type(max(sizes) - 1))
        done = [_settle(part, astray, codebooks, codes) for part in track(parts, "unique ids")]
    _write(source, target, codes)
    moved, before, after = (sum(values) for values in zip(*done, strict=True))
    return Streamed(n_items=n, moved=int(moved), error_before=before / max(n, 1), error=after / max(n, 1))


class _Part:
    """The rows of one first code, in two raw files."""

    def __init__(self, folder: Path, first: int) -> None:
        self.first = first
        self.n = 0
        self._rows, self._vectors = folder / f"{first}.rows", folder / f"{first}.vectors"

    def append(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        self.n += len(rows)
        for path, values in ((self._rows, rows.astype(np.int64)), (self._vectors, vectors.astype(np.float32))):
            with path.open("ab") as file:
                values.tofile(file)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) of the source, in order, and their vectors (n, D)."""
        rows = np.fromfile(self._rows, dtype=np.int64)
        vectors = np.fromfile(self._vectors, dtype=np.float32).reshape(len(rows), -1)
        order = np.argsort(rows, kind="stable")
        return rows[order], vectors[order]

    def take(self, kept: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Hold only the `kept` (n,) of what `read` gave."""
        self._rows.unlink()
        self._vectors.unlink()
        self.n = 0
        self.append(rows[kept], vectors[kept])


def read_vectors(source: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    """Item ids and float32 vectors (n, D) of `source`, chunk by chunk, in its order. Raises UserError as above."""
    dims = None
    start = 0
    for chunk in _scan(source, ["item_id", "vector"]):
        column = chunk["vector"]
        if isinstance(column.dtype, pl.List):
            width = dims or int(column.list.len()[0])
            if column.null_count() or (column.list.len() != width).any():
                raise UserError(f"{source}: after row {start}: vectors are not all {width} numbers; mend those rows")
            column = column.list.to_array(width)
        vectors = np.ascontiguousarray(column.to_numpy(), dtype=np.float32)
        dims = vectors.shape[1]
        check_finite(vectors, start)
        start += len(chunk)
        yield chunk["item_id"].cast(pl.String).to_list(), vectors


def _scan(source: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
    try:
        frame = pl.scan_parquet(source)
        missing = set(columns) - set(frame.collect_schema().names())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(f"{source}: not a readable Parquet table ({str(error).splitlines()[0]})") from None
    if missing:
        raise UserError(f"{source}: no column {', '.join(sorted(missing))}; it needs item_id and vector")
    yield from frame.select(columns).collect_batches(chunk_size=CHUNK, maintain_order=True)


def _part(source: Path, book: np.ndarray, parts: list[_Part]) -> int:
    """Append every row of `source` to the part of its nearest first code; how many there are."""
    n = 0
    for _, vectors in track(read_vectors(source), "first codes"):
        if vectors.shape[1] != book.shape[1]:
            raise UserError(f"{source}: vectors of {vectors.shape[1]} numbers, codebooks of {book.shape[1]}")
        code = nearest_codes(vectors, [book])[:, 0]
        by_code = np.argsort(code, kind="stable")
        firsts, starts = np.unique(code[by_code], return_index=True)
        for first, rows in zip(firsts, np.split(by_code, starts[1:]), strict=True):
            parts[first].append(n + rows, vectors[rows])
        n += len(vectors)
    return n


def _make_room(parts: list[_Part], book: np.ndarray, room: int) -> np.ndarray:
    """Move items out of the parts that hold more than `room`, as assign.py does; the source rows (m,) that moved.

    Only parts that hold too many are read.
    """
    full = [part for part in parts if part.n > room]
    if not full:
        return np.zeros(0, dtype=np.int64)
    held = [part.read() for part in full]
    rows, vectors = np.concatenate([r for r, _ in held]), np.concatenate([v for _, v in held])
    wanted = np.repeat([part.first for part in full], [part.n for part in full])
    order = np.argsort(rows, kind="stable")
    rows, vectors, wanted = rows[order], vectors[order], wanted[order]
    free = np.array([room if part.n > room else room - part.n for part in parts])
    given = spill(vectors, wanted, book, free)
    for part in parts:
        came = given == part.first
        if part in full:
            part.take(came, rows, vectors)
        elif came.any():
            part.append(rows[came], vectors[came])
    return rows[given != wanted]


def _settle(
    part: _Part, astray: np.ndarray, codebooks: Sequence[np.ndarray], codes: np.ndarray
) -> tuple[int, float, float]:
    """Fill `codes` (N, L) for the part's rows; items moved and the sums of squared error before and after.

    `astray` are the source rows of items whose nearest first code was another, full one.
    """
    if not part.n:
        return 0, 0.0, 0.0
    rows, vectors = part.read()
    residual = vectors - codebooks[0][part.first]
    below = nearest_codes(residual, codebooks[1:])
    first = np.full((len(rows), 1), part.first)
    given = np.hstack([first, unique_codes(residual, below, codebooks[1:])])
    wanted = np.hstack([first, below])
    came = np.isin(rows, astray)
    wanted[came] = nearest_codes(vectors[came], codebooks)
    codes[rows] = given
    moved = int((wanted != given).any(axis=1).sum())
    before, after = (float(((vectors - reconstruct(c, codebooks)) ** 2).sum(dtype=np.float64)) for c in (wanted, given))
    return moved, before, after


def _write(source: Path, target: Path, codes: np.ndarray) -> None:
    """Aside, then renamed: a half-written table is never taken for whole."""
    aside = target.with_name(target.name + ".partial")
    ids = pl.scan_parquet(source).select("item_id")
    pl.concat([ids, pl.LazyFrame({"codes": codes})], how="horizontal").sink_parquet(aside)
    os.replace(aside, target)
