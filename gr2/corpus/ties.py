"""Events of one time whose order is the file's and nobody's: they are put in an order drawn at random. (ours)

Many logs know days only, and are sorted by time from a file that was sorted by item. Then whoever takes several things
on one day has them in the order of that file, the next of them is always one from further down the alphabet, and a
ranker that learns so gains offline and nowhere else. In the Amazon sets of 2014 all events of one day stand in the
order of their ASINs (docs/ties.md).

Where the order of ties says nothing, a model of sequences need not learn one by heart: it reads another at each pass.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np

from gr2.corpus.splits import Log
from gr2.types import Split, Timeline

SORTED, LEAST = 0.95, 30
"""The order is the file's from this agreement on, of so many meetings at least."""
CHANCE = 0.6
"""Up to this agreement the order says nothing."""


@dataclass(frozen=True, kw_only=True)
class Ties:
    """Events of one user that share their time with the one before them."""

    tied: int
    meetings: int
    """Times that two items stood so side by side that did so more than once."""
    agreement: float
    """How many of the other meetings of the same two items have the same one first, in the mean of all meetings: about
    .5 where the order does not depend on the items, 1 where they are sorted; 0 without meetings."""

    @property
    def of_the_file(self) -> bool:
        """Whether the order is the file's."""
        return self.meetings >= LEAST and self.agreement >= SORTED

    @property
    def of_chance(self) -> bool:
        """Whether the order says nothing."""
        return self.agreement <= CHANCE


def ties_of(log: Log) -> Ties:
    """What can be seen of the order of events of one time."""
    ways: Counter[tuple[str, str]] = Counter()
    for events in log.values():
        for (item, time), (other, at) in pairwise(events):
            if time == at and item != other:
                ways[item, other] += 1
    met = {(a, b): n + ways.get((b, a), 0) for (a, b), n in ways.items()}
    again = {way: n for way, n in met.items() if n > 1}
    meetings = sum(ways[way] for way in again)
    agree = sum(ways[way] * (ways[way] - 1) / (n - 1) for way, n in again.items())
    return Ties(tied=ways.total(), meetings=meetings, agreement=agree / meetings if meetings else 0.0)


def drawn(log: Log) -> Log:
    """The log with events of one time in an order drawn at random, the same for a user whatever the seed of a run: all
    runs are tested on the same events."""
    return {user: _drawn(Random(user), events) for user, events in log.items()}


def _drawn(random: Random, events: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(events, key=lambda event: (event[1], random.random()))


def settled(log: Log) -> tuple[Log, Ties]:
    """The log, ties drawn where their order is the file's, and what its ties were like."""
    ties = ties_of(log)
    return (drawn(log) if ties.of_the_file else log), ties


def training_ties(timelines: Sequence[Timeline]) -> list[list[slice]]:
    """Which training events of each timeline share a time, where the order of such says nothing; else none."""
    known = [list(zip(t.item_ids, t.times, strict=True))[: t.splits.count(Split.TRAIN)] for t in timelines]
    if not ties_of({t.user_id: events for t, events in zip(timelines, known, strict=True)}).of_chance:
        return [[] for _ in timelines]
    return [tied([time for _, time in events]) for events in known]


def tied(times: Sequence[int]) -> list[slice]:
    """Where events of one time stand, more than one each."""
    starts = [at for at in range(len(times)) if not at or times[at] != times[at - 1]]
    return [slice(a, b) for a, b in pairwise([*starts, len(times)]) if b - a > 1]


def redrawn(rows: Sequence[int], ties: Sequence[slice], rng: np.random.Generator) -> list[int]:
    """The items with those of one time in another order."""
    again = list(rows)
    for where in ties:
        again[where] = rng.permutation(again[where]).tolist()
    return again
