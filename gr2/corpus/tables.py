"""Rows of a JSONL, CSV (both may end in .gz) or Parquet file, each with the place to name in an error."""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from gr2.errors import UserError

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """(where, row), where `where` is like `items.csv, line 3`. An empty CSV cell is None.

    Raises UserError for a file that is absent, empty, unreadable or of another kind, and for an unparseable row.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of a {', '.join(SUFFIXES)} file")
    if path.name.endswith(".parquet"):
        rows = _parquet_rows(path)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        rows = _jsonl_rows(path)
    elif path.name.endswith((".csv", ".csv.gz")):
        rows = _csv_rows(path)
    else:
        raise UserError(f"{path}: not a file that can be read; its name must end in {', '.join(SUFFIXES)}")
    empty = True
    for row in _readable(path, rows):
        empty = False
        yield row
    if empty:
        raise UserError(f"{path}: holds no rows; give a file with at least one")


def _readable(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """`rows`, with every way in which bytes can be bad turned into a UserError."""
    try:
        yield from rows
    except (OSError, EOFError, zlib.error, pl.exceptions.PolarsError) as error:
        raise UserError(f"{path}: unreadable ({_one_line(error)}); write the file again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({_one_line(error)}); save it as UTF-8") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _parquet_rows(path: Path) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(pl.read_parquet(path, glob=False).iter_rows(named=True), start=1):
        yield f"{path}, row {number}", row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not JSON ({error.msg}); mend or remove the line") from None
            if not isinstance(row, dict):
                raise UserError(f"{where}: not a JSON object; write one {{...}} a line")
            yield where, row


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    with _open(path) as file:
        reader = csv.DictReader(file, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(f"{path}, line {reader.reader.line_num}: not CSV ({error}); mend the row") from None
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise UserError(f"{where}: not {len(reader.fieldnames or ())} cells as in the header; mend its commas")
            yield where, {column: cell or None for column, cell in row.items()}
