"""Whom a ranker helps: the held-out events cut by the history before them, by how long ago that ended, and by how
popular, how cold and how far down the target is.

Thirds are those of the events whose target was retrieved, since only there do rankers differ. (ours)
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gr2.artifacts import Corpus
from gr2.types import DAY, Slate, Split

COLD = 10
"""A target with fewer training events than this is cold."""
AGO = {"less than a day": (0, DAY - 1), "less than 30 days": (DAY, 30 * DAY - 1), "longer": (30 * DAY, np.inf)}
"""Least and most seconds of a slice."""
POSITIONS = ((1, 1), (2, 3), (4, 5), (6, None))
"""First and last incoming position of a slice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """An event to be predicted, retrieved or not."""

    slate_id: str
    user_id: str
    history: int
    """Events of the user before it, all of them."""
    gap: float
    """Seconds since the newest of them; infinite where there is none."""
    popularity: int
    """Training events of its item."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the events."""

    by: str
    """What the events are cut by."""
    name: str
    rows: np.ndarray
    """Its slates' rows."""
    missed: tuple[str, ...]
    """The user of each of its events without a slate."""
    whole: bool
    """Whether events without a slate can belong to it."""


def held_out(corpus: Corpus, split: Split) -> list[HeldOut]:
    """Every event of a split, with the slate id that s04_slates gives it."""
    taken = Counter(item for sequence in corpus.train_sequences() for item in sequence)
    return [
        HeldOut(
            slate_id=f"{t.user_id}:{at}",
            user_id=t.user_id,
            history=at,
            gap=t.times[at] - t.times[at - 1] if at else np.inf,
            popularity=taken[t.item_ids[at]],
        )
        for t in corpus.timelines
        for at, of in enumerate(t.splits)
        if of is split
    ]


def slices(slates: Sequence[Slate], events: Sequence[HeldOut]) -> list[Slice]:
    """All slices; without `events` only those by incoming position."""
    return [*_by_event(slates, events), *_by_position(slates)]


def _by_event(slates: Sequence[Slate], events: Sequence[HeldOut]) -> list[Slice]:
    event_of = {e.slate_id: e for e in events}
    slated = {s.slate_id for s in slates}
    retrieved = [event_of[s.slate_id] for s in slates if s.slate_id in event_of]
    if len(retrieved) < len(slates) or not slates:
        return []
    misses = [e for e in events if e.slate_id not in slated]

    def cut(by: str, ranges: Mapping[str, tuple[float, float]], trait: Callable[[HeldOut], float]) -> list[Slice]:
        return [
            Slice(
                by=by,
                name=name,
                rows=np.flatnonzero([low <= trait(e) <= high for e in retrieved]),
                missed=tuple(e.user_id for e in misses if low <= trait(e) <= high),
                whole=True,
            )
            for name, (low, high) in ranges.items()
        ]

    cold = {f"cold: fewer than {COLD}": (0, COLD - 1), f"{COLD} or more": (COLD, np.inf)}
    return [
        *cut("history, events", thirds([e.history for e in retrieved]), lambda e: e.history),
        *cut("time since the event before", AGO, lambda e: e.gap),
        *cut("target's training events", thirds([e.popularity for e in retrieved]), lambda e: e.popularity),
        *cut("cold targets, training events", cold, lambda e: e.popularity),
    ]


def _by_position(slates: Sequence[Slate]) -> list[Slice]:
    came_in = np.array([s.target + 1 for s in slates], dtype=np.int64)
    cuts = []
    for first, last in POSITIONS:
        name = f"{first} or later" if last is None else str(first) if first == last else f"{first} to {last}"
        rows = np.flatnonzero((came_in >= first) & (came_in <= (np.inf if last is None else last)))
        cuts.append(Slice(by="target came in at", name=name, rows=rows, missed=(), whole=False))
    return cuts


def thirds(values: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Three ranges with about as many of the values in each: name -> (lowest, highest); fewer when values repeat."""
    first, second = (int(q) for q in np.quantile(values, (1 / 3, 2 / 3), method="inverted_cdf"))
    ranges: dict[str, tuple[float, float]] = {f"up to {first}": (0, first)}
    if second > first:
        ranges[f"{first + 1} to {second}"] = (first + 1, second)
    ranges[f"over {second}"] = (second + 1, np.inf)
    return ranges
