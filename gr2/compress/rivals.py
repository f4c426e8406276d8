"""Simple ways to shorten a history, against which a compressor must win. (ours)

Each keeps n events of the slate's history, in their order; of equals the newer one.
"""

from collections.abc import Callable

import numpy as np

from gr2.compress.policy import Catalogue
from gr2.types import Slate

Keep = Callable[[Slate, int], tuple[str, ...]]
"""A slate and n -> the events kept."""


def last(slate: Slate, n: int) -> tuple[str, ...]:
    return slate.history[-n:]


def at_random(slate: Slate, n: int, seed: int) -> tuple[str, ...]:
    """A pure function of seed and slate id."""
    rng = np.random.default_rng([seed, *slate.slate_id.encode()])
    return _highest(slate, rng.random(len(slate.history)), n)


def most_popular(slate: Slate, n: int, popularity: dict[str, float]) -> tuple[str, ...]:
    return _highest(slate, np.array([popularity[i] for i in slate.history]), n)


def nearest(slate: Slate, n: int, catalogue: Catalogue, row: dict[str, int]) -> tuple[str, ...]:
    """The events most like any candidate, by cosine. It must be made anew for every slate."""
    events = catalogue.vectors[[row[i] for i in slate.history]]
    candidates = catalogue.vectors[[row[i] for i in slate.candidates]]
    return _highest(slate, (events @ candidates.T).max(-1).values.numpy(), n)


def _highest(slate: Slate, scores: np.ndarray, n: int) -> tuple[str, ...]:
    newest_first = np.argsort(-scores[::-1], kind="stable")[:n]
    return tuple(slate.history[place] for place in sorted(len(scores) - 1 - newest_first))
