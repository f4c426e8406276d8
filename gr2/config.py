"""A run's TOML file: one table a stage, read into the stages' Configs and written out with every default filled in.

`base = "nano.toml"` at its top lays its tables over those of that file. The table [ablate] is no stage's: `gr2 ablate`
reads it, and a run is made as if it were not there.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gr2.errors import UserError
from gr2.record import write_whole

ABLATE = "ablate"
SEEDS = 2**32
"""So many seeds there are for the generators of NumPy."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class RunTable(BaseModel):
    """The [run] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str | None = Field(default=None, pattern=NAME)
    """The run is written to runs/<name>; the file's own name where it is left out."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Of every stage."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that a run is made from."""

    name: str
    seed: int
    tables: Mapping[str, BaseModel]
    """Table name ("sids") -> the Config of that stage, for every stage."""

    def of_seed(self, seed: int) -> "RunConfig":
        """The same run with another seed, whose name ends in it; itself with its own."""
        return self if seed == self.seed else replace(self, name=f"{self.name}-{seed}", seed=seed)


def read_config(path: Path, kinds: Mapping[str, type[BaseModel]]) -> RunConfig:
    """Read `path`; `kinds` names the tables it may have.

    Raises UserError on the first thing that is wrong, with file, table, key and the nearest known name.
    """
    return fill_config(str(path), path.stem, parse_config(path), kinds)


def fill_config(where: str, name: str, raw: Mapping[str, Any], kinds: Mapping[str, type[BaseModel]]) -> RunConfig:
    """The config of the tables `raw`; errors begin with `where`, and `name` is the run's where [run] has none."""
    for table, values in raw.items():
        if not isinstance(values, dict):
            raise UserError(f"{where}: {table!r} stands outside of a table; move it below one of {_tables(kinds)}")
        if table not in ("run", ABLATE, *kinds):
            raise UserError(f"{where}: unknown table [{table}]; {nearest(table, ('run', *kinds))}")
    head = fill_table(where, "run", RunTable, raw)
    written_first = sorted(kinds, key=lambda table: table not in raw)  # what was typed wrong before what was left out
    tables = {table: fill_table(where, table, kinds[table], raw) for table in written_first}
    if head.name is None and not re.fullmatch(NAME, name):
        raise UserError(
            f"{where}: {name!r} names the run's folder; use letters, digits, ., _ and -, or give [run] name"
        )
    return RunConfig(name=head.name or name, seed=head.seed, tables={table: tables[table] for table in kinds})


def parse_config(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, laid over those of its base, which lends it its name too."""
    raw = _parse(path)
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise UserError(f'{path}: base = {base!r}: not a file name; write base = "nano.toml", at the top')
    below = _parse(path.parent / base)
    if "base" in below:
        raise UserError(f"{path}: its base {base} has a base of its own; take that one, {below['base']}")
    return overlaid({"run": {"name": Path(base).stem}}, below, raw)


def overlaid(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Tables laid over each other, inner tables too; of a key's values the last layer's is seen."""
    merged: dict[str, Any] = {}
    for key, value in (pair for layer in layers for pair in layer.items()):
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlaid(merged[key], value) if both else value
    return merged


def write_config(path: Path, config: RunConfig) -> None:
    """Write every value, each under what it means, so that the file explains the run and makes it again."""
    head = RunTable(name=config.name, seed=config.seed)
    tables = {"run": head, **config.tables}
    text = "\n".join(line for name, table in tables.items() for line in _table_lines(name, table))
    write_whole(path, text.lstrip("\n") + "\n")


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'slates'?`, or all there is to choose from when nothing is near."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}"


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=partial(_finite, path))
    except FileNotFoundError:
        others = ", ".join(sorted(p.name for p in path.parent.glob("*.toml"))) or "no .toml file"
        raise UserError(f"{path}: not there; that folder has {others}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from None


def _finite(path: Path, text: str) -> float:
    """TOML knows `inf` and `nan`; no setting does."""
    if not math.isfinite(value := float(text)):
        raise UserError(f"{path}: {text}: no setting takes it; give a finite number")
    return value


def _tables(kinds: Iterable[str]) -> str:
    return ", ".join(f"[{name}]" for name in ("run", *kinds))


def fill_table(where: str, table: str, kind: type[BaseModel], raw: Mapping[str, Any]) -> Any:
    """`kind` filled from the table; UserError on the first thing that is wrong."""
    try:
        return kind.model_validate(raw.get(table, {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict) and first["type"] == "value_error":  # several values that do not go together
        raise UserError(f"{where}: [{'.'.join(map(str, [table, *first['loc']]))}] {message}")
    *parents, key = map(str, first["loc"])
    place = f"{where}: [{'.'.join([table, *parents])}]"
    if first["type"] == "extra_forbidden":
        raise UserError(f"{place} unknown key {key!r}; {nearest(key, _fields(kind, parents))}")
    if first["type"] == "missing":
        raise UserError(f"{place} key {key!r} is missing; add it")
    raise UserError(f"{place} {key} = {json.dumps(first['input'], default=str)}: {message}")


def _fields(kind: type[BaseModel], parents: Iterable[str]) -> list[str]:
    """The known keys of the (nested) table."""
    for part in parents:
        inner = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def _table_lines(name: str, table: BaseModel) -> Iterator[str]:
    """`[name]` and its keys, then its inner tables. None is left out: TOML has no word for it."""
    yield from ("", f"[{name}]")
    values = table.model_dump(mode="json", exclude_none=True)
    inner = [key for key in values if isinstance(getattr(table, key), BaseModel)]
    for key in (key for key in values if key not in inner):
        meaning = type(table).model_fields[key].description or ""
        yield from (f"# {line}" for line in meaning.splitlines())
        yield f"{key} = {_toml(values[key])}"
    for key in inner:
        yield from _table_lines(f"{name}.{key}", getattr(table, key))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
