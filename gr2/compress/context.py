"""Whole and short contexts: which events a history has, how many are kept, and a cache by content. (ours)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from gr2.artifacts import Corpus, SemanticIds
from gr2.compress.policy import Catalogue, Scorer, features, highest
from gr2.errors import UserError
from gr2.record import digest_bytes, read_json, reading, write_json
from gr2.types import Slate, Timeline

WEIGHTS, META, CONTEXTS = "compressor.safetensors", "compressor.json", "contexts.parquet"
REMEMBERED = 100_000
"""Contexts kept in memory; the oldest goes first."""


def whole_history(slate: Slate, timeline: Timeline) -> tuple[str, ...]:
    """All events up to the slate's newest one: slates hold only the last of them ([slates] history_cap).

    Found by the first place at which the slate's history stands in the timeline, so that nothing later comes in.
    Raises ValueError when it stands nowhere.
    """
    n = len(slate.history)
    for end in range(n, len(timeline.item_ids) + 1):
        if timeline.item_ids[end - n : end] == slate.history:
            return timeline.item_ids[:end]
    raise ValueError(f"slate {slate.slate_id}: its history is not in its user's timeline")


def with_whole_history(slates: Sequence[Slate], corpus: Corpus, newest: int) -> list[Slate]:
    """The slates, each with the `newest` events of its user's whole history."""
    return [s.showing(whole_history(s, corpus.by_user[s.user_id])[-newest:]) for s in slates]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is read and what is kept, in events."""

    newest: int
    """Newest events read, the whole context."""
    share: float
    """Share of them that the short context stays under."""
    at_least: int
    """So many are kept of any history that has them."""

    def budget(self, events: int) -> int:
        """How many events are kept of so many: under `share` of them, or `at_least`."""
        return min(events, max(self.at_least, ceil(self.share * events) - 1))


@dataclass(frozen=True, kw_only=True)
class Compressor:
    """A trained policy with what it knows of items, and the contexts that it has made. Written by s09_compress."""

    scorer: Scorer
    catalogue: Catalogue
    row: Mapping[str, int]
    """Item id -> row of the catalogue."""
    limits: Limits
    sids_digest: str
    cache: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Key of a whole context -> the short one."""

    @torch.inference_mode()
    def compress(self, history: Sequence[str]) -> tuple[str, ...]:
        """Some of the newest events, in their order. Raises KeyError for an item that is not in the catalogue."""
        whole = tuple(history[-self.limits.newest :])
        if not whole:
            return ()
        scores_E = self.scorer(features(self.catalogue, [self.row[i] for i in whole], self.limits.newest))
        return tuple(whole[place] for place in highest(scores_E, self.limits.budget(len(whole))))

    def short(self, history: Sequence[str]) -> tuple[str, ...]:
        """`compress` through the cache: what training and serving call."""
        name = key(history[-self.limits.newest :])
        if name not in self.cache:
            if len(self.cache) >= REMEMBERED:
                del self.cache[next(iter(self.cache))]
            self.cache[name] = self.compress(history)
        return self.cache[name]

    def shorten(self, slate: Slate) -> Slate:
        """The slate with its short context. Ask the neighbours for their votes before, of the whole history."""
        return slate.showing(self.short(slate.history))

    def save(self, folder: Path) -> None:
        weights = {name: value.contiguous() for name, value in self.scorer.state_dict().items()}
        save_file(
            {**weights, "vectors": self.catalogue.vectors, "popularity": self.catalogue.popularity}, folder / WEIGHTS
        )
        write_json(folder / META, {"sids_digest": self.sids_digest, **vars(self.limits)})
        pl.DataFrame(
            {"key": list(self.cache), "kept": [list(kept) for kept in self.cache.values()]},
            schema={"key": pl.String, "kept": pl.List(pl.String)},
        ).write_parquet(folder / CONTEXTS)

    @classmethod
    def load(cls, folder: Path, corpus: Corpus, ids: SemanticIds) -> "Compressor":
        """Raises UserError when there is none, it is spoilt, or it was trained for another catalogue."""
        meta = read_json(folder / META)
        digest = meta.pop("sids_digest")
        if digest != ids.digest:
            raise UserError(f"{folder}: trained with other semantic ids ({digest}, not {ids.digest}); train it again")
        limits = Limits(**meta)
        scorer = Scorer()
        with reading(folder / WEIGHTS):
            weights = load_file(folder / WEIGHTS)
            catalogue = Catalogue(vectors=weights.pop("vectors"), popularity=weights.pop("popularity"))
            scorer.load_state_dict(weights)
        with reading(folder / CONTEXTS):
            contexts = pl.read_parquet(folder / CONTEXTS, glob=False)
        return cls(
            scorer=scorer.eval(),
            catalogue=catalogue,
            row=corpus.row,
            limits=limits,
            sids_digest=digest,
            cache={name: tuple(kept) for name, kept in contexts.iter_rows()},
        )


def key(history: Sequence[str]) -> str:
    """The name of a context: a digest of what is in it."""
    return digest_bytes("\0".join(history).encode())
