"""Raw logs -> the catalogue and every user's timeline, split into train, valid and test, with leak checks.

Reads: no stage; MovieLens-100K (fetched, cached) or the files named in the config. Writes: Corpus (items.parquet,
events.parquet). Source: P1's protocol holds out the last event; several of them a user are ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gr2.artifacts import Corpus
from gr2.corpus.generic import read_items, read_log
from gr2.corpus.movielens import read_movielens
from gr2.corpus.splits import Log, split_log
from gr2.corpus.ties import settled, ties_of
from gr2.record import digests_of, stage_folder
from gr2.types import Item, Split

NAME = "01_corpus"
READS: tuple[str, ...] = ()


class Config(BaseModel):
    """The [corpus] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    reader: Literal["movielens", "generic"] = "movielens"
    """Where the data come from: MovieLens-100K, or your own tables (`items` and `events`). Ours."""
    items: Path | None = None
    """Catalogue for the generic reader: .jsonl, .csv (also .gz) or .parquet; columns in docs/01-corpus.md."""
    events: Path | None = None
    """Log for the generic reader: one sequence a user, or one event a row; columns in docs/01-corpus.md."""
    cache: Path = Path("cache")
    """Folder in which fetched data are kept between runs."""
    n_test: int = Field(default=5, ge=1)
    """Test events a user: the last ones. P1: 1; several for more slates is ours."""
    n_valid: int = Field(default=5, ge=1)
    """Validation events a user: those before the test events. P1: 1; several is ours."""
    min_train: int = Field(default=3, ge=1)
    """A user with fewer events than min_train + n_valid + n_test keeps all of them for training. Ours."""
    ties: Literal["file"] | None = None
    """Left out: events of one time are put in an order drawn at random where the file has sorted them by item
    (docs/ties.md); "file" keeps the file's order, to compare with tables that were made so. Ours."""

    @model_validator(mode="after")
    def _files_for_generic(self) -> Self:
        if self.reader == "generic" and (self.items is None or self.events is None):
            raise ValueError("reader = 'generic' needs both paths, items and events")
        if self.reader == "movielens" and (self.items or self.events):
            raise ValueError("items and events are read only with reader = 'generic'")
        return self

    def files(self) -> dict[str, Path]:
        """The user's own that are read."""
        return {"items": self.items, "events": self.events} if self.items and self.events else {}


def build_corpus(items: Sequence[Item], log: Log, config: Config) -> Corpus:
    """Raises UserError on a leak, or when no user has enough events."""
    timelines = split_log(log, n_valid=config.n_valid, n_test=config.n_test, min_train=config.min_train)
    return Corpus(items=tuple(items), timelines=timelines)


def counts_of(corpus: Corpus) -> dict[str, int]:
    """For the record: items, users, events, and events a split."""
    splits = [split for t in corpus.timelines for split in t.splits]
    return {
        "items": len(corpus.items),
        "users": len(corpus.timelines),
        "events": len(splits),
        **{f"{split.value}_events": splits.count(split) for split in Split},
        "users_held_out": sum(Split.TEST in t.splits for t in corpus.timelines),
    }


def main(run: Path, config: Config, seed: int) -> None:
    with stage_folder(run / NAME, {**config.model_dump(), "seed": seed}, {}) as work:
        if config.items and config.events:
            items = read_items(config.items)
            log = read_log(config.events, items)
            work.counts |= digests_of(config.files())
        else:
            items, log = read_movielens(config.cache)
        chosen, ties = (log, ties_of(log)) if config.ties == "file" else settled(log)
        corpus = build_corpus(items, chosen, config)
        corpus.save(work.path)
        work.counts |= {**counts_of(corpus), "tied": ties.tied, "ties_agree": round(ties.agreement, 3)}
        work.counts["ties_drawn"] = chosen is not log
