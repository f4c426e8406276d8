"""Stage 4: a pre-ranker's top K, in its order, for every held-out event and for training events, or logged slates.

Cross-fitted: a user's training slates come from a SASRec that never trained on that user (k folds of
users), because a model's lists for events it has learned by heart are far better than those the
re-ranker will meet. Validation and test slates come from the SASRec trained on all training events.
The target is never inserted; an event whose target was not retrieved makes no slate and is counted.
Where the config names a log of what a production ranker showed, that ranker is the pre-ranker and none is trained.
Neighbours give a second opinion on every slate.

Most training events make no slate, since their target is not among the K best. Where the config asks for it, the
cross-fitted pre-rankers also make *practice slates*: where the target is in a longer list, K - 1 others are drawn from
that list. They teach whoever learns from slates beside the real ones, and nothing is ever measured on them.

Reads: 01_corpus. Writes: slates.parquet, neighbours.safetensors, events.json (split -> user -> events tried), and
sasrec/ (all users' weights) or, of a log, examination.json (how likely each place is looked at); practice/
(slates.parquet), if asked for.
Source: ours; the setting is P1's, "target within the pre-ranker's top 10", and of a log P2's.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gr2.artifacts import PRACTICE, Corpus, Slates
from gr2.corpus.logged import LogConfig, read_log
from gr2.corpus.logged_slates import Shown, boundaries, slates_of
from gr2.corpus.ties import training_ties
from gr2.errors import UserError
from gr2.evaluate import propensity
from gr2.lm.memory import keep_freed_memory
from gr2.progress import bar
from gr2.prompt.render import MAX_LABELS
from gr2.record import StageFolder, digests_of, stage_folder, write_json
from gr2.retrieve import sasrec
from gr2.retrieve.folds import user_folds
from gr2.retrieve.neighbours import remember, user_rows, with_votes
from gr2.retrieve.sasrec import Sasrec, SasrecConfig
from gr2.types import Slate, Split, Timeline
from gr2.workers import end_with_parent

NAME = "04_slates"
READS = ("01_corpus",)
DRAWS = 2
"""Practice slates an event."""
BATCH = 128
"""Histories scored at once: what the states of so many take fits into a core's cache."""


class Config(BaseModel):
    """What a slate holds and how its pre-ranker is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    k: int = Field(10, ge=2, le=MAX_LABELS)
    """Candidates a slate (P1: 10)."""
    folds: int = Field(4, ge=2)
    """Groups of users for cross-fitting (ours)."""
    min_history: int = Field(5, ge=0)
    """A user's first events of the training part make no slate (ours)."""
    train_events_per_user: int = Field(500, ge=1)
    """Most recent training events of a user that are tried as targets (ours)."""
    history_cap: int = Field(50, ge=1)
    """Newest events kept in `Slate.history`; all earlier events are excluded from the candidates anyway (ours)."""
    practice: int | None = None
    """Length of the list that must hold a target to make practice slates of it; more than k. Left out: none (ours)."""
    sasrec: SasrecConfig = SasrecConfig()
    """The pre-ranker."""
    log: LogConfig | None = None
    """What a production ranker showed; of this table only k and history_cap are read besides (P2)."""

    @model_validator(mode="after")
    def _practice_is_drawn_from_more_than_a_slate(self) -> "Config":
        if self.practice is not None and self.practice <= self.k:
            raise ValueError(f"practice = {self.practice} must be more than k = {self.k}: raise it or leave it out")
        return self

    def files(self) -> dict[str, Path]:
        """The user's own that are read."""
        return {"log": self.log.path} if self.log else {}


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """What the stage makes."""

    slates: Slates
    practice: Slates
    """Empty unless asked for."""
    n_events: dict[Split, dict[str, int]]
    """split -> user -> events tried; those without a slate are misses of the pre-ranker."""
    model: Sasrec
    """Trained on all users' training events."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one pre-ranker makes."""

    fold: int
    """The fold it did not see and made training slates for; the number after the last: it saw all users."""
    losses: tuple[float, ...]
    """Mean of each epoch, nats an event."""
    slates: tuple[Slate, ...]
    practice: tuple[Slate, ...]
    model: Sasrec


@dataclass(frozen=True, kw_only=True)
class Event:
    """A target and all that was known before it."""

    timeline: Timeline
    position: int

    @property
    def history(self) -> tuple[str, ...]:
        return self.timeline.item_ids[: self.position]

    @property
    def history_times(self) -> tuple[int, ...]:
        return self.timeline.times[: self.position]


def make_slates(
    corpus: Corpus,
    config: Config,
    seed: int,
    report: Callable[[Part], None] = lambda part: None,
    workers: int = 1,
) -> Retrieved:
    """Train folds + 1 pre-rankers in `workers` processes and retrieve; `report` hears of each when it is done.

    Raises UserError when there are fewer users than folds or too few items for a slate.
    """
    if len(corpus.timelines) < config.folds:
        raise UserError(f"[slates] folds = {config.folds}, but there are only {len(corpus.timelines)} users; lower it")
    for key, size in (("k", config.k), ("practice", config.practice or 0)):
        if len(corpus.items) <= size:
            raise UserError(f"[slates] {key} = {size}, but there are only {len(corpus.items)} items; lower it")
    # The job of all users is the longest, so it starts first.
    jobs = (delayed(make_part)(corpus, config, seed, fold) for fold in (config.folds, *range(config.folds)))
    parts: dict[int, Part] = {}
    # Idle workers would hold their memory for five minutes, into the next stages.
    with parallel_config("loky", idle_worker_timeout=30, initializer=end_with_parent):
        done = Parallel(n_jobs=min(workers, config.folds + 1), return_as="generator_unordered")(jobs)
    for part in done:
        report(part)
        parts[part.fold] = part
    slates, practice = (
        Slates(slates=tuple(slate for fold in sorted(parts) for slate in made(parts[fold])))
        for made in (attrgetter("slates"), attrgetter("practice"))
    )
    n_events = {s: dict(Counter(e.timeline.user_id for e in events_of(corpus.timelines, (s,), config))) for s in Split}
    return Retrieved(slates=slates, practice=practice, n_events=n_events, model=parts[config.folds].model)


def make_part(corpus: Corpus, config: Config, seed: int, fold: int) -> Part:
    """One pre-ranker and its slates, on one thread, so that it comes out the same beside any number of others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    if fold < config.folds:
        fold_of = user_folds([t.user_id for t in corpus.timelines], config.folds, seed)
        learned_from = [t for t in corpus.timelines if fold_of[t.user_id] != fold]
        events = events_of([t for t in corpus.timelines if fold_of[t.user_id] == fold], (Split.TRAIN,), config)
    else:
        learned_from = list(corpus.timelines)
        events = events_of(corpus.timelines, (Split.VALID, Split.TEST), config)
    losses: list[float] = []
    model = fit(learned_from, corpus.row, config, seed, losses.append)
    slates = retrieve(model, corpus, events, config)
    # Only who never saw a user draws for it: the last model saw all.
    drawn = practise(model, corpus, events, config, seed) if config.practice and fold < config.folds else ()
    torch.set_num_threads(threads)
    return Part(fold=fold, losses=tuple(losses), slates=slates, practice=drawn, model=model)


def fit(
    timelines: Sequence[Timeline],
    row: Mapping[str, int],
    config: Config,
    seed: int,
    report: Callable[[float], None],
) -> Sasrec:
    """SASRec on the training events of these users and of nobody else."""
    rows = [[row[item] for item in t.item_ids[: t.splits.count(Split.TRAIN)]] for t in timelines]
    ties = training_ties(timelines)
    return sasrec.train(rows, len(row), config.sasrec, seed, lambda epoch, loss, _: report(loss), ties=ties)


def events_of(timelines: Sequence[Timeline], splits: Sequence[Split], config: Config) -> list[Event]:
    """The events of these splits that are tried as targets, user by user, oldest first."""
    events = []
    for timeline in timelines:
        first = max(config.min_history, timeline.splits.count(Split.TRAIN) - config.train_events_per_user)
        for position, split in enumerate(timeline.splits):
            if split in splits and (split is not Split.TRAIN or position >= first):
                events.append(Event(timeline=timeline, position=position))
    return events


def retrieve(model: Sasrec, corpus: Corpus, events: Sequence[Event], config: Config) -> tuple[Slate, ...]:
    """The slates of those events whose target is among the K best items outside the history."""
    found: dict[int, Slate] = {}
    for i, top, scores, target in best_of(model, corpus, events, config.k):
        if target in top:
            found[i] = _slate(events[i], top, scores, target, corpus, config)
    return tuple(found[i] for i in sorted(found))


def practise(model: Sasrec, corpus: Corpus, events: Sequence[Event], config: Config, seed: int) -> tuple[Slate, ...]:
    """DRAWS slates of each event whose target is among the `practice` best items outside the history: the target and
    K - 1 others of them, drawn at random, in the pre-ranker's order."""
    found: dict[int, list[Slate]] = {}
    rng = np.random.default_rng(seed)
    for i, top, scores, target in best_of(model, corpus, events, config.practice or 0):
        others = np.flatnonzero(top != target)
        if len(others) == len(top):
            continue
        for draw in range(DRAWS):
            left_out = rng.choice(others, len(top) - config.k, replace=False)
            chosen = np.delete(np.arange(len(top)), left_out)
            slate = _slate(events[i], top[chosen], scores[chosen], target, corpus, config)
            found.setdefault(i, []).append(replace(slate, slate_id=f"{slate.slate_id}:practice{draw}"))
    return tuple(slate for i in sorted(found) for slate in found[i])


def best_of(
    model: Sasrec, corpus: Corpus, events: Sequence[Event], n: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray, int]]:
    """(number of the event, rows of the n best items outside its history, their scores, the target's row), in no order
    that means anything; not of events with fewer than n such items. Equals stand as in the catalogue."""
    # Histories of like length are scored together, so that little of a batch is padding.
    order = sorted(range(len(events)), key=lambda i: events[i].position)
    for at in range(0, len(order), BATCH):
        chosen = order[at : at + BATCH]
        seen = [[corpus.row[item] for item in events[i].history] for i in chosen]
        for i, rows, scores_N in zip(chosen, seen, sasrec.scores(model, seen), strict=True):
            scores_N[rows] = -np.inf
            top = np.argpartition(-scores_N, n)[:n]
            top = top[np.lexsort((top, -scores_N[top]))]
            if np.isfinite(scores_N[top]).all():
                yield i, top, scores_N[top], corpus.row[events[i].timeline.item_ids[events[i].position]]


def _slate(event: Event, top: np.ndarray, scores: np.ndarray, target: int, corpus: Corpus, config: Config) -> Slate:
    return Slate(
        slate_id=f"{event.timeline.user_id}:{event.position}",
        user_id=event.timeline.user_id,
        split=event.timeline.splits[event.position],
        time=event.timeline.times[event.position],
        history=event.history[-config.history_cap :],
        history_times=event.history_times[-config.history_cap :],
        candidates=tuple(corpus.items[i].item_id for i in top),
        scores=tuple(float(s) for s in scores),
        gains=tuple(int(i == target) for i in top),
    )


def examine(log: pl.DataFrame, config: LogConfig, k: int) -> dict[str, Any]:
    """How likely each of the first K places is looked at: as given, or estimated from the training days' swaps.

    Slates without a click count too, so this reads the whole log. Propensities that cannot be known are None.
    """
    if config.propensities is not None:
        return {"propensities": propensity.checked(config.propensities, k).tolist(), "source": "given"}
    seen = log.filter((pl.col("time") < boundaries(log, config)[0]) & (pl.col("position") < k))
    pairs = seen.select(pl.struct("user", "item").rank("dense")).to_series()
    found = propensity.swaps(seen["position"].to_numpy(), pairs.to_numpy(), seen["gain"].to_numpy() > 0)
    try:
        theta_K = propensity.estimate(found, k, config.grid_columns)
    except UserError as error:
        return {"propensities": None, "source": str(error)}
    return {"propensities": theta_K.tolist(), "source": f"estimated from {seen.height} rows"}


def retrieve_all(corpus: Corpus, config: Config, seed: int, work: StageFolder) -> Retrieved:
    """`make_slates` behind a progress bar; losses go to the metrics, the weights to sasrec/."""
    with bar() as progress:
        task = progress.add_task("pre-rankers", total=config.folds + 1)

        def report(part: Part) -> None:
            phase = f"fold {part.fold}" if part.fold < config.folds else "all users"
            for epoch, loss in enumerate(part.losses):
                work.metric(phase=phase, step=epoch, loss=loss)
            progress.advance(task)

        result = make_slates(corpus, config, seed, report, workers=cpu_count())
    sasrec.save(result.model, work.path / sasrec.PRE_RANKER)
    return result


def read_all(corpus: Corpus, config: Config, log: LogConfig, work: StageFolder) -> Shown:
    """The log's slates; what became of the others goes to the record, the propensities to examination.json."""
    table = read_log(log.path, log.columns, corpus)
    shown = slates_of(table, corpus, log, config.k, config.history_cap)
    examined = examine(table, log, config.k)
    write_json(work.path / "examination.json", examined)
    work.counts |= {**digests_of(config.files()), **shown.counts, "propensities": examined["source"]}
    return shown


def main(run: Path, config: Config, seed: int) -> None:
    corpus = Corpus.load(run / READS[0])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        if config.log is None:
            result: Retrieved | Shown = retrieve_all(corpus, config, seed, work)
        else:
            result = read_all(corpus, config, config.log, work)
        neighbours = remember(corpus)
        neighbours.save(work.path)
        users = user_rows(corpus)
        Slates(slates=with_votes(result.slates.slates, neighbours, corpus.row, users)).save(work.path)
        if config.practice and isinstance(result, Retrieved):  # a log has no longer lists
            drawn = with_votes(result.practice.slates, neighbours, corpus.row, users)
            (work.path / PRACTICE).mkdir(exist_ok=True)
            Slates(slates=drawn).save(work.path / PRACTICE)
            work.counts["slates_practice"] = len(drawn)
        write_json(work.path / "events.json", result.n_events)
        for split in Split:
            work.counts[f"events_{split.value}"] = sum(result.n_events[split].values())
            work.counts[f"slates_{split.value}"] = len(result.slates.split(split))
