"""The log of what a production ranker showed: one row an item shown, read with Polars and checked row by row. (ours)

A slate's places count from 0 or from 1, the same in the whole file, and have no holes. Ids are text or whole numbers,
times whole seconds of the corpus' own origin. Every UserError names file, row and mend.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gr2.artifacts import Corpus
from gr2.corpus.generic import TOO_LATE
from gr2.errors import UserError
from gr2.types import DAY

YEAR = 365 * DAY
FLAGS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
IDS = ("slate", "user", "item")
UNLOGGED = ("conversion", "score")
"""What a log may lack."""


class Columns(BaseModel):
    """What the log calls its columns."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    slate: str = "slate_id"
    """Names one impression: one user, one moment."""
    user: str = "user_id"
    """As in the corpus."""
    item: str = "item_id"
    """As in the corpus."""
    position: str = "position"
    """The item's place in the slate, from 0 or from 1; in a grid, row by row."""
    click: str = "click"
    """0 or 1."""
    time: str = "time"
    """When it was shown: whole seconds."""
    conversion: str = "conversion"
    """0 or 1; "" where it is not logged."""
    score: str = "score"
    """The production ranker's; "" where it is not logged."""


class LogConfig(BaseModel):
    """Where the log is, and how it becomes slates."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: Path
    """A .parquet, .csv or .csv.gz file: one row an item shown."""
    gap_days: float = Field(1.0, ge=0)
    """The history ends so many days before the slate was shown (P2 has such a gap; its length is ours)."""
    valid_from: int | None = None
    """Slates shown from this second on are for validation; None: whole days, by `valid_share`."""
    test_from: int | None = None
    """Slates shown from this second on are for testing; None: whole days, by `test_share`."""
    valid_share: float = Field(0.1, gt=0, lt=1)
    """Share of the days with slates, before the test days, that are for validation; at least one day (ours)."""
    test_share: float = Field(0.1, gt=0, lt=1)
    """Share of the days with slates, the last ones, that are for testing; at least one day (ours)."""
    grid_columns: int | None = Field(None, ge=1)
    """Items a row where slates are shown as a grid; None: a carousel, or any list (ours)."""
    propensities: tuple[float, ...] | None = None
    """Chance that each place is looked at, one a place; None: estimated from the training days (ours)."""
    columns: Columns = Columns()
    """What the log calls its columns."""

    @model_validator(mode="after")
    def _boundaries(self) -> Self:
        if (self.valid_from is None) != (self.test_from is None):
            raise ValueError("valid_from and test_from go together; give both or neither")
        if self.valid_from is not None and self.test_from is not None and self.valid_from >= self.test_from:
            raise ValueError("valid_from must be before test_from")
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share + test_share leave no days for training; lower them")
        return self


@dataclass(frozen=True, kw_only=True)
class Source:
    """A log's rows as they stand in the file, under our names, each with its number from 0 in `row`."""

    path: Path
    rows: pl.LazyFrame

    def refuse(self, table: pl.DataFrame, bad: pl.Expr, problem: str) -> None:
        """Raises UserError at the first row that is bad; `{name}` in `problem` stands for its value in the file."""
        row = table.filter(bad)["row"].min()
        if row is not None:
            values = self.rows.filter(pl.col("row") == row).collect().row(0, named=True)
            raise UserError(f"{self.place(int(str(row)))}: {problem.format(**values)}")

    def place(self, row: int) -> str:
        return f"{self.path}, {f'row {row + 1}' if self.path.suffix == '.parquet' else f'line {row + 2}'}"


def read_log(path: Path, columns: Columns, corpus: Corpus) -> pl.DataFrame:
    """Rows sorted by slate and place: slate, user, item, position (from 0), time, score (or null), gain (0, 1 or 2).

    Raises UserError for a file that cannot be read, and for every row that is not what the module's docstring says.
    """
    try:
        source = _open(path, columns)
        table = _typed(source.rows, columns).collect(engine="streaming")
        if table.is_empty():
            raise UserError(f"{path}: holds no rows; give a log with at least one slate")
        _check_rows(source, table, columns, corpus)
        table = table.sort("slate", "position", "row")
        _check_slates(source, table)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: unreadable ({' '.join(str(error).split())[:200]}); write the file again") from None
    _check_clock(path, table, corpus)
    gain = pl.col("click").cast(pl.Int64) + pl.col("conversion").cast(pl.Int64)
    from_0 = pl.col("position") - pl.col("position").min()
    return table.select("slate", "user", "item", from_0, "time", "score", gain=gain)


def _open(path: Path, columns: Columns) -> Source:
    """The file's columns under our names; one that is not logged is null."""
    if not path.name.endswith((".parquet", ".csv", ".csv.gz")):
        raise UserError(f"{path}: not a log that can be read; its name must end in .parquet, .csv or .csv.gz")
    if not path.is_file():
        raise UserError(f"{path}: no such file; mend [slates.log] path")
    if path.suffix == ".parquet":
        raw = pl.scan_parquet(path, glob=False)
    else:
        raw = pl.scan_csv(path, infer_schema=False, glob=False)
    schema = raw.collect_schema()
    for field, name in columns.model_dump().items():
        if name not in schema and not (field in UNLOGGED and name == ""):
            unlogged = ' or to ""' if field in UNLOGGED else ""
            mend = f"set [slates.log.columns] {field} to the name of yours{unlogged}"
            raise UserError(f"{path}: no column {name!r}, only {', '.join(schema)}; {mend}")
        if field in IDS and not (schema[name] == pl.String or schema[name].is_integer()):
            raise UserError(f"{path}: column {name!r} holds {schema[name]}, no ids; make it text or whole numbers")
    wanted = ((pl.col(name) if name else pl.lit(None)).alias(field) for field, name in columns.model_dump().items())
    return Source(path=path, rows=raw.select(*wanted).with_row_index("row"))


def _typed(rows: pl.LazyFrame, columns: Columns) -> pl.LazyFrame:
    """Ids as text, numbers and flags; a value that is none of its column's kind becomes null."""

    def whole(name: str) -> pl.Expr:
        number = pl.col(name).cast(pl.Float64, strict=False)
        return pl.when(number == number.round()).then(number).cast(pl.Int64, strict=False).alias(name)

    def flag(name: str) -> pl.Expr:
        text = pl.col(name).cast(pl.String).str.to_lowercase()
        return text.replace_strict(FLAGS, default=None, return_dtype=pl.Boolean)

    return rows.select(
        "row",
        *(pl.col(name).cast(pl.String).replace("", None) for name in IDS),
        whole("position"),
        whole("time"),
        flag("click"),
        flag("conversion") if columns.conversion else pl.lit(False).alias("conversion"),
        pl.col("score").cast(pl.Float64, strict=False),
    )


def _check_rows(source: Source, table: pl.DataFrame, columns: Columns, corpus: Corpus) -> None:
    for name in IDS:
        source.refuse(table, pl.col(name).is_null(), f"no {name} id; fill it in or remove the row")
    for name in ("position", "time"):
        source.refuse(table, pl.col(name).is_null(), f"{name} holds {{{name}!r}}; give a whole number")
    source.refuse(table, pl.col("time") < 0, "time is negative ({time}); count from the corpus' origin")
    late = "time is {time}, which is no time in seconds; divide milliseconds by 1000"
    source.refuse(table, pl.col("time") >= TOO_LATE, late)
    for name in ("click", "conversion"):
        source.refuse(table, pl.col(name).is_null(), f"{name} holds {{{name}!r}}; give 0 or 1")
    source.refuse(
        table, pl.col("conversion") & ~pl.col("click"), "a conversion without a click; set click to 1, or drop it"
    )
    if columns.score:
        no_number = pl.col("score").is_null() | ~pl.col("score").is_finite()
        source.refuse(table, no_number, 'score holds {score!r}; give a number, or [slates.log.columns] score = ""')
    users, items = list(corpus.by_user), list(corpus.row)
    source.refuse(
        table, ~pl.col("user").is_in(users), "user {user!r} is not in the corpus; add its events or remove the slate"
    )
    source.refuse(
        table, ~pl.col("item").is_in(items), "item {item!r} is not in the corpus; add it there or remove the slate"
    )


def _check_slates(source: Source, table: pl.DataFrame) -> None:
    """`table` is sorted by slate and position."""

    def step(name: str) -> pl.Expr:
        return pl.col(name).diff()

    first = int(str(table["position"].min()))
    if first not in (0, 1):
        source.refuse(table, pl.col("position") == first, "no slate has a place before {position}; count from 0 or 1")
    same = pl.col("slate") == pl.col("slate").shift(fill_value="")
    for name in ("user", "time"):
        other = same & (pl.col(name) != pl.col(name).shift())
        source.refuse(table, other, f"slate {{slate!r}} has another {name} above ({{{name}}} here); name them apart")
    source.refuse(table, same & (step("position") == 0), "slate {slate!r} has position {position} twice; mend one")
    source.refuse(
        table,
        (same & (step("position") > 1)) | (~same & (pl.col("position") > first)),
        "slate {slate!r} has nothing just before position {position}, and places are from "
        f"{first} on in this file; add the row, or number them anew",
    )
    twice = pl.struct("slate", "item").is_duplicated() & ~pl.struct("slate", "item").is_first_distinct()
    source.refuse(table, twice, "slate {slate!r} shows item {item!r} twice; remove one and number the places anew")


def _check_clock(path: Path, table: pl.DataFrame, corpus: Corpus) -> None:
    """Milliseconds in one file and seconds in the other would put the whole future into every history."""
    events = [t.times[at] for t in corpus.timelines if t.times for at in (0, -1)]
    shown = [int(str(table["time"].min())), int(str(table["time"].max()))]
    if events and (shown[0] > max(events) + YEAR or shown[1] < min(events)):
        raise UserError(
            f"{path}: shown from {shown[0]} to {shown[1]}, but the corpus' events are from {min(events)} to "
            f"{max(events)}; give both in seconds of one origin"
        )
