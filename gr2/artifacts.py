"""The nouns of GR2 on disk: each has `load(folder)` and `save(folder)`. Tables are Parquet, prose is JSONL."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from gr2.errors import UserError
from gr2.record import digest_json, read_json, read_jsonl, reading, write_json
from gr2.types import AnswerStatus, Item, Ranking, SemanticId, Slate, Split, Timeline, Trace

VECTORS = "vectors.safetensors"
SLATES = "slates.parquet"
PRACTICE = "practice"
"""The folder of the practice slates in that of s04_slates."""
FEATURES = "features.safetensors"
CHECKPOINT = "gr2.json"
"""Beside a checkpoint's weights: what it reads."""


def _read_table(path: Path) -> pl.DataFrame:
    with reading(path):
        return pl.read_parquet(path, glob=False)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The catalogue and every user's timeline. Written by s01_corpus."""

    items: tuple[Item, ...]
    timelines: tuple[Timeline, ...]

    @cached_property
    def row(self) -> dict[str, int]:
        """item id -> row in `items`, in embeddings and in codes."""
        return {item.item_id: i for i, item in enumerate(self.items)}

    @cached_property
    def by_user(self) -> dict[str, Timeline]:
        return {t.user_id: t for t in self.timelines}

    def train_sequences(self) -> list[tuple[str, ...]]:
        """Each user's training events, oldest first, in the order of `timelines`: all that anything may learn from."""
        return [tuple(i for i, s in zip(t.item_ids, t.splits, strict=True) if s is Split.TRAIN) for t in self.timelines]

    def save(self, folder: Path) -> None:
        pl.DataFrame(
            [asdict(item) for item in self.items],
            schema={
                "item_id": pl.String,
                "title": pl.String,
                "categories": pl.List(pl.String),
                "year": pl.Int64,
                "brand": pl.String,
            },
        ).write_parquet(folder / "items.parquet")
        pl.DataFrame(
            [
                (t.user_id, position, item_id, time, split.value)
                for t in self.timelines
                for position, (item_id, time, split) in enumerate(zip(t.item_ids, t.times, t.splits, strict=True))
            ],
            schema={
                "user_id": pl.String,
                "position": pl.Int64,
                "item_id": pl.String,
                "time": pl.Int64,
                "split": pl.String,
            },
            orient="row",
        ).write_parquet(folder / "events.parquet")

    @classmethod
    def load(cls, folder: Path) -> "Corpus":
        items = tuple(
            Item(**{**row, "categories": tuple(row["categories"])})
            for row in _read_table(folder / "items.parquet").iter_rows(named=True)
        )
        timelines = tuple(
            Timeline(
                user_id=user_id,
                item_ids=tuple(item_ids),
                times=tuple(times),
                splits=tuple(Split(s) for s in splits),
            )
            for user_id, item_ids, times, splits in _read_table(folder / "events.parquet")
            .group_by("user_id", maintain_order=True)
            .agg("item_id", "time", "split")
            .iter_rows()
        )
        return cls(items=items, timelines=timelines)


def save_text_vectors(vectors_NT: np.ndarray, folder: Path) -> None:
    save_file({"text": vectors_NT}, folder / VECTORS)


def load_text_vectors(folder: Path) -> np.ndarray:
    """(N, T) float32 of the items' texts, in the order of the catalogue. Written by s02_sids."""
    with reading(folder / VECTORS):
        return load_file(folder / VECTORS)["text"]


@dataclass(frozen=True, kw_only=True)
class SemanticIds:
    """A unique semantic id for every item of a catalogue. Written by s02_sids."""

    item_ids: tuple[str, ...]
    codes: np.ndarray
    """(N, L) int64."""
    codebook_sizes: tuple[int, ...]
    """Number of codes of each of the L levels."""
    codebooks: tuple[np.ndarray, ...]
    """One (codebook size, D) float32 a level."""

    @cached_property
    def digest(self) -> str:
        """Names this assignment; a checkpoint that carries another digest is refused."""
        return digest_json([list(self.item_ids), self.codes.tolist(), list(self.codebook_sizes)])

    @cached_property
    def of(self) -> dict[str, SemanticId]:
        """item id -> semantic id."""
        return {
            i: SemanticId(codes=tuple(int(c) for c in row)) for i, row in zip(self.item_ids, self.codes, strict=True)
        }

    @cached_property
    def item_of(self) -> dict[tuple[int, ...], str]:
        """codes -> item id."""
        return {sid.codes: item_id for item_id, sid in self.of.items()}

    def save(self, folder: Path) -> None:
        pl.DataFrame({"item_id": list(self.item_ids), "codes": self.codes.tolist()}).write_parquet(
            folder / "ids.parquet"
        )
        save_file({f"level_{i}": c for i, c in enumerate(self.codebooks)}, folder / "codebooks.safetensors")
        write_json(folder / "sids.json", {"digest": self.digest, "codebook_sizes": list(self.codebook_sizes)})

    @classmethod
    def load(cls, folder: Path) -> "SemanticIds":
        meta = read_json(folder / "sids.json")
        table = _read_table(folder / "ids.parquet")
        with reading(folder / "codebooks.safetensors"):
            books = load_file(folder / "codebooks.safetensors")
        sizes = [len(books.get(f"level_{i}", ())) for i in range(len(books))]
        if sizes != meta["codebook_sizes"] or not all(np.isfinite(book).all() for book in books.values()):
            raise UserError(
                f"{folder / 'codebooks.safetensors'}: spoilt (sizes {sizes}, not {meta['codebook_sizes']}, or numbers "
                "that are not finite); run s02_sids again"
            )
        ids = cls(
            item_ids=tuple(table["item_id"]),
            codes=np.array(table["codes"].to_list(), dtype=np.int64),
            codebook_sizes=tuple(meta["codebook_sizes"]),
            codebooks=tuple(books[f"level_{i}"] for i in range(len(books))),
        )
        if ids.digest != meta["digest"]:
            raise UserError(f"{folder}: ids.parquet is not the one sids.json was written with; run s02_sids again")
        return ids


@dataclass(frozen=True, kw_only=True)
class Slates:
    """Slates of all splits. Written by s04_slates; with advice by s05_traces, and as it is served by s10_direct."""

    slates: tuple[Slate, ...]

    @cached_property
    def by_id(self) -> dict[str, Slate]:
        return {s.slate_id: s for s in self.slates}

    def split(self, split: Split) -> tuple[Slate, ...]:
        return tuple(s for s in self.slates if s.split is split)

    def save(self, folder: Path) -> None:
        """All slates have features, or none."""
        told = [s.features for s in self.slates if s.features is not None]
        if told:
            # safetensors writes the memory as it lies, whatever the order of its axes.
            save_file({"features": np.ascontiguousarray(np.concatenate(told))}, folder / FEATURES)
        schema = {
            "slate_id": pl.String(),
            "user_id": pl.String(),
            "split": pl.String(),
            "time": pl.Int64(),
            "history": pl.List(pl.String),
            "history_times": pl.List(pl.Int64),
            "candidates": pl.List(pl.String),
            "scores": pl.List(pl.Float64),
            "gains": pl.List(pl.Int64),
            "votes": pl.List(pl.Float64),
            "advice": pl.List(pl.Float64),
        }
        rows = [{**{name: getattr(s, name) for name in schema}, "split": s.split.value} for s in self.slates]
        pl.DataFrame(rows, schema=schema).write_parquet(folder / SLATES)

    @classmethod
    def load(cls, folder: Path) -> "Slates":
        table = _read_table(folder / SLATES)
        told: Sequence[np.ndarray | None] = [None] * len(table)
        if (folder / FEATURES).exists():
            ends = table["candidates"].list.len().cum_sum().to_numpy()[:-1]
            with reading(folder / FEATURES):
                told = np.split(load_file(folder / FEATURES)["features"], ends)
        return cls(
            slates=tuple(
                Slate(
                    slate_id=row["slate_id"],
                    user_id=row["user_id"],
                    split=Split(row["split"]),
                    time=row["time"],
                    history=tuple(row["history"]),
                    history_times=tuple(row.get("history_times") or ()),  # slates of an older gr2 have none
                    candidates=tuple(row["candidates"]),
                    scores=tuple(row["scores"]),
                    gains=tuple(row["gains"]),
                    votes=tuple(row["votes"]),
                    advice=tuple(row.get("advice") or ()),  # likewise
                    features=x_KF,
                )
                for row, x_KF in zip(table.iter_rows(named=True), told, strict=True)
            )
        )


def practice_slates(folder: Path) -> tuple[Slate, ...]:
    """Those in the folder of s04_slates; none where none were asked for."""
    return Slates.load(folder / PRACTICE).slates if (folder / PRACTICE).exists() else ()


@dataclass(frozen=True, kw_only=True)
class Traces:
    """A teacher's traces, kept and refused. Written by s05_traces."""

    traces: tuple[Trace, ...]

    def kept(self) -> tuple[Trace, ...]:
        return tuple(t for t in self.traces if t.kept)

    def save(self, folder: Path) -> None:
        lines = [json.dumps(asdict(t), ensure_ascii=False) for t in self.traces]
        (folder / "traces.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Traces":
        traces = []
        for row in read_jsonl(folder / "traces.jsonl"):
            row.pop("opinion", None)  # traces of an older gr2 have one
            traces.append(Trace(**{**row, "order": tuple(row["order"])}))
        return cls(traces=tuple(traces))


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """What one ranker says of many slates. Written by s13_evaluate, one folder a ranker."""

    ranker: str
    rankings: tuple[Ranking, ...]

    def save(self, folder: Path) -> None:
        pl.DataFrame(
            [{**asdict(r), "order": list(r.order), "status": r.status.value} for r in self.rankings],
            schema={
                "slate_id": pl.String,
                "order": pl.List(pl.Int64),
                "status": pl.String,
                "thought": pl.String,
                "tied": pl.Int64,
            },
        ).write_parquet(folder / "rankings.parquet")

    @classmethod
    def load(cls, folder: Path) -> "Rankings":
        return cls(
            ranker=folder.name,
            rankings=tuple(
                Ranking(
                    slate_id=row["slate_id"],
                    order=tuple(row["order"]),
                    status=AnswerStatus(row["status"]),
                    thought=row["thought"],
                    tied=row.get("tied", 0),
                )
                for row in _read_table(folder / "rankings.parquet").iter_rows(named=True)
            ),
        )


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """One metric, or probe, of one ranker on n slates or events.

    All but the value's own interval is None for the reference itself, and for probes.
    """

    value: float
    low: float
    high: float
    """95 % interval."""
    n: int
    p_incoming: float | None = None
    """Paired two-sided p against the incoming order."""
    p_best_legacy: float | None = None
    """Paired two-sided p against the best legacy re-ranker (chosen on validation)."""
    holm_incoming: float | None = None
    """`p_incoming` after Holm's correction over all of the table that have one."""
    holm_best_legacy: float | None = None
    gain_incoming: tuple[float, float, float] | None = None
    """The value less that of the incoming order, with the paired 95 % interval."""
    gain_best_legacy: tuple[float, float, float] | None = None


Table = dict[str, dict[str, MetricValue]]
"""ranker -> metric -> value."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What s13_evaluate found.

    Protocols: `given_target` (slates that hold the target; P1's) and `end_to_end` (every held-out event;
    an event whose target was not retrieved counts 0).
    """

    n_slates: int
    n_events: int
    best_legacy: str
    table: dict[str, Table]
    """protocol -> table."""
    slices: dict[str, dict[str, dict[str, Table]]] = field(default_factory=dict)
    """protocol -> what the events are cut by -> slice -> table."""
    probes: Table = field(default_factory=dict)
    """ranker -> probe -> value."""
    answers: dict[str, dict[str, int]] = field(default_factory=dict)
    """ranker -> status of its answers -> how many; `tied` and `repaired` are counted beside the statuses."""
    first_from: dict[str, list[float]] = field(default_factory=dict)
    """ranker -> share of its slates whose first item came in at each of the K positions."""
    target_at: list[float] = field(default_factory=list)
    """Share of slates whose target came in at each of the K positions."""

    def save(self, folder: Path) -> None:
        write_json(folder / "summary.json", asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Scores":
        raw = read_json(folder / "summary.json")
        return cls(**raw | {name: _values(raw.get(name, {})) for name in ("table", "slices", "probes")})


def _values(raw: Any) -> Any:
    """The same nest of dicts, with a MetricValue in the place of each that has a value."""
    if not isinstance(raw, dict):
        return raw
    if "value" not in raw:
        return {name: _values(inside) for name, inside in raw.items()}
    gains = {name: tuple(raw[name]) for name in ("gain_incoming", "gain_best_legacy") if raw.get(name)}
    return MetricValue(**raw | gains)


def check_same_catalogue(ids: SemanticIds, items: Sequence[Item], where: Path) -> None:
    """Raises UserError when `ids` does not cover exactly `items`."""
    if set(ids.item_ids) != {item.item_id for item in items}:
        raise UserError(f"{where}: its semantic ids are another catalogue's; run s02_sids again")
