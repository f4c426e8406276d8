"""A checked log of shown slates -> Slates: one length, split by time, with histories that end before the slate. (ours)

P2 trains on one day and tests on the days after it, drops slates without a positive or without a negative, and lets
the history end days before the slate, so that nothing which the slate led to can stand in it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from gr2.artifacts import Corpus, Slates
from gr2.corpus.logged import LogConfig
from gr2.errors import UserError
from gr2.progress import track
from gr2.types import DAY, Slate, Split

KEPT, MISS = "kept", "positive_below_k"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a log makes."""

    slates: Slates
    n_events: dict[Split, dict[str, int]]
    """split -> user -> slates with a positive and a negative; of these, one clicked below place K only is a miss."""
    counts: dict[str, int]
    """Slates in the log, those left out by reason, and what else a reader of the record should know."""


def boundaries(log: pl.DataFrame, config: LogConfig) -> tuple[int, int]:
    """First second of validation and of test. Raises UserError when there are too few days to share out."""
    if config.valid_from is not None and config.test_from is not None:
        return config.valid_from, config.test_from
    days = (log["time"] // DAY).unique().sort()
    n_test, n_valid = (max(1, round(share * len(days))) for share in (config.test_share, config.valid_share))
    if n_test + n_valid >= len(days):
        raise UserError(
            f"{config.path}: its {len(days)} days are too few to share out; set [slates.log] valid_from and test_from"
        )
    return int(days[-n_test - n_valid]) * DAY, int(days[-n_test]) * DAY


def slates_of(log: pl.DataFrame, corpus: Corpus, config: LogConfig, k: int, history_cap: int) -> Shown:
    """`log` as `read_log` gives it. Slates come by time, those of one moment by id.

    Raises UserError when a split is left without slates.
    """
    table = _judged(_slate_table(log, *boundaries(log, config)), corpus, config, k)
    fates = dict(table["fate"].value_counts().sort("fate").iter_rows())
    kept = table.filter(pl.col("fate") == KEPT)
    for split in Split:
        if split.value not in kept["split"]:
            reasons = ", ".join(f"{n} {fate}" for fate, n in fates.items() if fate != KEPT)
            raise UserError(
                f"{config.path}: no {split.value} slate is left of {len(table)} ({reasons or 'none was shown then'}); "
                "docs/logged-slates.md says how each is mended"
            )
    slates = tuple(track(_slates(kept, corpus, config, k, history_cap), "slates", total=len(kept)))
    return Shown(
        slates=Slates(slates=slates),
        n_events={split: _by_user(table.filter(pl.col("split") == split.value)) for split in Split},
        counts={
            "slates_in_log": len(table),
            **{fate: n for fate, n in fates.items() if fate != KEPT},
            "cut_to_k": kept.filter(pl.col("items").list.len() > k).height,
            "empty_history": sum(not s.history for s in slates),
            "scores_out_of_order": sum(list(s.scores) != sorted(s.scores, reverse=True) for s in slates),
        },
    )


def _slate_table(log: pl.DataFrame, valid_from: int, test_from: int) -> pl.DataFrame:
    """One row a slate: slate, user, time, split; items, gains, scores as lists in the order shown."""
    split = (
        pl.when(pl.col("time") < valid_from)
        .then(pl.lit(Split.TRAIN.value))
        .when(pl.col("time") < test_from)
        .then(pl.lit(Split.VALID.value))
        .otherwise(pl.lit(Split.TEST.value))
    )
    return (
        log.group_by("slate", maintain_order=True)
        .agg(pl.first("user", "time"), items=pl.col("item"), gains=pl.col("gain"), scores=pl.col("score"))
        .with_columns(split=split)
        .sort("time", "slate")
    )


def _judged(table: pl.DataFrame, corpus: Corpus, config: LogConfig, k: int) -> pl.DataFrame:
    """With a column `fate`: kept, or why not."""
    learned = pl.DataFrame(
        [(t.user_id, t.times[n - 1]) for t in corpus.timelines if (n := t.splits.count(Split.TRAIN))],
        schema={"user": pl.String, "learned_until": pl.Int64},
        orient="row",
    )
    known_too_late = pl.col("learned_until") >= pl.col("time") - config.gap_days * DAY
    gains, first_k = pl.col("gains").list, pl.col("gains").list.head(k).list
    fate = (
        pl.when(gains.len() < k)
        .then(pl.lit("shorter_than_k"))
        .when(gains.max() == 0)
        .then(pl.lit("no_positive"))
        .when(gains.min() > 0)
        .then(pl.lit("no_negative"))
        .when((pl.col("split") != Split.TRAIN.value) & known_too_late)
        .then(pl.lit("learned_from"))
        .when(first_k.max() == 0)
        .then(pl.lit(MISS))
        .when(first_k.min() > 0)
        .then(pl.lit("no_negative"))
        .otherwise(pl.lit(KEPT))
    )
    return table.join(learned, on="user", how="left", maintain_order="left").with_columns(fate=fate)


def _slates(kept: pl.DataFrame, corpus: Corpus, config: LogConfig, k: int, history_cap: int) -> Iterator[Slate]:
    for row in kept.iter_rows(named=True):
        timeline = corpus.by_user[row["user"]]
        before = bisect_left(timeline.times, row["time"] - config.gap_days * DAY)
        yield Slate(
            slate_id=row["slate"],
            user_id=row["user"],
            split=Split(row["split"]),
            time=row["time"],
            history=timeline.item_ids[max(0, before - history_cap) : before],
            history_times=timeline.times[max(0, before - history_cap) : before],
            candidates=tuple(row["items"][:k]),
            scores=_scores(row["scores"], k),
            gains=tuple(row["gains"][:k]),
        )


def _scores(logged: list[Any], k: int) -> tuple[float, ...]:
    """Where none are logged, minus the place: what the server gives to a slate without scores."""
    return tuple(-float(place) if score is None else score for place, score in enumerate(logged[:k]))


def _by_user(table: pl.DataFrame) -> dict[str, int]:
    counted = table.filter(pl.col("fate").is_in([KEPT, MISS]))["user"].value_counts().sort("user")
    return dict(counted.iter_rows())
