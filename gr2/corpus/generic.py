"""Anybody's catalogue and log: items, and sequences or an event log, as JSONL, CSV or Parquet.

items      item_id, and title or text_id (stands in for a missing title); categories, brand, year if known
sequences  user_id, items (oldest first; the given order is kept), timestamps or seconds_since_first if known
events     user_id, item_id, timestamp: one event a row, in any order (events of one time keep the file's order)

Ids are text or whole numbers; times are whole seconds of any origin, not negative. Every UserError names file,
line and mend.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gr2.corpus.splits import Log
from gr2.corpus.tables import Row, read_rows
from gr2.errors import UserError
from gr2.letters import whole_letters
from gr2.progress import track
from gr2.types import Item

UNTITLED = "untitled"
TOO_LATE = 10**11
"""Seconds: the year 5138. Milliseconds since 1973 are above it."""


def read_items(path: Path) -> tuple[Item, ...]:
    """The catalogue in file order."""
    items: dict[str, Item] = {}
    for where, row in track(read_rows(path), f"reading {path.name}"):
        item_id = _id(row, "item_id", where)
        if item_id in items:
            raise UserError(f"{where}: item_id {item_id!r} stands there twice; remove one of its rows")
        if "title" not in row:
            _need(row, "text_id", where)
        items[item_id] = Item(
            item_id=item_id,
            title=_text(row.get("title")) or _text(row.get("text_id")) or UNTITLED,
            categories=_categories(row, where),
            year=_whole(row["year"], "year", where) if row.get("year") is not None else None,
            brand=_text(row.get("brand")) or None,
        )
    return tuple(items.values())


def read_log(path: Path, items: Sequence[Item] | None) -> Log:
    """Each user's events, oldest first, from a file of sequences (it has a column `items`) or of events. Without a
    catalogue any item may stand there."""
    known = None if items is None else {item.item_id for item in items}
    log: dict[str, list[tuple[str, int]]] = {}
    is_sequences = None
    for where, row in track(read_rows(path), f"reading {path.name}"):
        if is_sequences is None:
            is_sequences = "items" in row
        user_id = _id(row, "user_id", where)
        if not is_sequences:
            log.setdefault(user_id, []).append(_event(row, known, where))
        elif user_id in log:
            raise UserError(f"{where}: user_id {user_id!r} stands there twice; put all events of a user into one row")
        else:
            log[user_id] = _sequence(row, known, where)
    if is_sequences:
        return log
    return {user_id: sorted(events, key=lambda event: event[1]) for user_id, events in log.items()}


def _event(row: Row, known: set[str] | None, where: str) -> tuple[str, int]:
    item_id = _known(_id(row, "item_id", where), known, where)
    return item_id, _time(_need(row, "timestamp", where), "timestamp", where)


def _sequence(row: Row, known: set[str] | None, where: str) -> list[tuple[str, int]]:
    """Without times, an event's time is its position."""
    item_ids = [
        _known(_as_id(i, "items", where), known, where) for i in _list(_need(row, "items", where), "items", where)
    ]
    if not item_ids:
        raise UserError(f"{where}: user {row['user_id']!r} has no events; remove the row")
    column = "timestamps" if row.get("timestamps") is not None else "seconds_since_first"
    if row.get(column) is None:
        return [(item_id, position) for position, item_id in enumerate(item_ids)]
    times = [_time(t, column, where) for t in _list(row[column], column, where)]
    if len(times) != len(item_ids):
        raise UserError(f"{where}: {len(item_ids)} items but {len(times)} {column}; give one time an item")
    for position in range(1, len(times)):
        if times[position] < times[position - 1]:
            raise UserError(f"{where}: {column} decrease at event {position + 1}; sort the user's events, oldest first")
    return list(zip(item_ids, times, strict=True))


def _need(row: Row, column: str, where: str) -> Any:
    if column not in row:
        raise UserError(f"{where}: no column {column!r}, only {', '.join(map(str, row))}; add it or rename one")
    return row[column]


def _id(row: Row, column: str, where: str) -> str:
    return _as_id(_need(row, column, where), column, where)


def _as_id(value: Any, column: str, where: str) -> str:
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not text.strip() or whole_letters(text) != text:
        raise UserError(f"{where}: {column} holds {value!r}, which is no id; give text or a whole number")
    return text


def _known(item_id: str, known: set[str] | None, where: str) -> str:
    if known is not None and item_id not in known:
        raise UserError(f"{where}: item {item_id!r} is not in the items file; add it there or remove the event")
    return item_id


def _time(value: Any, column: str, where: str) -> int:
    time = _whole(value, column, where)
    if time < 0:
        raise UserError(f"{where}: {column} is negative ({time}); count from an earlier origin")
    if time >= TOO_LATE:
        raise UserError(f"{where}: {column} is {time}, which is no time in seconds; divide milliseconds by 1000")
    return time


def _whole(value: Any, column: str, where: str) -> int:
    """`1995`, and `1995.0`, which is what a table with gaps makes of it."""
    with suppress(TypeError, ValueError, OverflowError):
        number = float(value) if isinstance(value, str) and "." in value else value
        if not isinstance(value, bool) and int(number) == (number if isinstance(number, int) else float(number)):
            return int(number)
    raise UserError(f"{where}: {column} holds {value!r}; give a whole number")


def _list(value: Any, column: str, where: str) -> list[Any]:
    """A list, or a JSON list as text (the form it has in a CSV cell)."""
    if isinstance(value, str):
        with suppress(json.JSONDecodeError):
            value = json.loads(value)
    if not isinstance(value, list):
        raise UserError(f"{where}: {column} holds {value!r}; give a list such as [1, 2]")
    return value


def _categories(row: Row, where: str) -> tuple[str, ...]:
    """From a list, a list of paths (the first, which is the main one, counts), `A > B`, or nothing."""
    value = row.get("categories")
    if isinstance(value, str) and not value.lstrip().startswith("["):
        value = value.split(">")
    path = _list(value, "categories", where) if value is not None else []
    if path and isinstance(path[0], list):
        path = path[0]
    return tuple(name for name in map(_text, path) if name)


def _text(value: Any) -> str:
    """One line, single blanks; "" for None."""
    return "" if value is None else " ".join(whole_letters(str(value)).split())
