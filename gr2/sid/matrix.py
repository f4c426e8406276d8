"""Item vectors that one has already, as .npy or Parquet, checked and taken as they are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from gr2.errors import UserError


def read_matrix(path: Path, item_ids: Sequence[str]) -> np.ndarray:
    """(N, D) float32 in the order of `item_ids`.

    .npy: (N, D), row i is the i-th item of the catalogue. .parquet: columns item_id and vector, in any order; items
    that are not in the catalogue are left out. Raises UserError for a file that is absent or unreadable, of another
    shape or kind, lacks an item, holds a value that is not finite, or has the same vector for every item.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a .npy or .parquet file")
    matrix = _parquet(path, item_ids) if path.suffix == ".parquet" else _npy(path, len(item_ids))
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path}: the vector of item {item_ids[bad[0]]!r} holds NaN or infinity; mend it ({len(bad)} so)"
        )
    if len(matrix) > 1 and (matrix == matrix[0]).all():
        raise UserError(f"{path}: all {len(matrix)} vectors are equal, which says nothing of the items; make it again")
    return matrix


def _npy(path: Path, n: int) -> np.ndarray:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{path}: not a .npy file ({' '.join(str(error).split())[:200]}); write it by numpy.save"
        ) from None
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise UserError(f"{path}: holds no table of numbers; save an array of shape ({n}, dimensions)")
    if len(matrix) != n or not matrix.shape[1]:
        raise UserError(f"{path}: shape {matrix.shape} for {n} items; give one row an item, in the catalogue's order")
    return matrix.astype(np.float32)


def _parquet(path: Path, item_ids: Sequence[str]) -> np.ndarray:
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: unreadable ({' '.join(str(error).split())[:200]}); write the file again") from None
    if missing := {"item_id", "vector"} - set(table.columns):
        raise UserError(f"{path}: no column {min(missing)!r}; it needs item_id and vector (a list of numbers)")
    row = {str(item_id): i for i, item_id in enumerate(table["item_id"])}
    if len(row) < len(table):
        raise UserError(f"{path}: an item_id stands there twice; keep one row an item")
    if lacking := [i for i in item_ids if i not in row]:
        raise UserError(f"{path}: no row for item {lacking[0]!r} ({len(lacking)} are missing); add one an item")
    try:
        matrix = np.array(table["vector"].to_list(), dtype=np.float32)
    except (ValueError, TypeError):
        raise UserError(f"{path}: column vector does not hold lists of numbers of one length; mend it") from None
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise UserError(f"{path}: column vector does not hold lists of numbers; mend it")
    return matrix[[row[i] for i in item_ids]]
