"""Who visited what, and what after what, in the training events: counts of everybody but the user at hand. (ours)

A user counts an item, or a pair of items, once: by the item's first training event. Every look-up names a user
and leaves out what that user did, so nothing of a training slate's own target is in its counts. What is left of it
is that the target's counts are one short of the catalogue's; a weighted sum of smooth counts cannot find that, a tree
can (`advice.counts`), so these counts are for the linear teacher only.

Shapes: U users, N items, E first events; the arrays of a look-up broadcast.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix

from gr2.advice.counts import SPAN, first_events, look_up
from gr2.artifacts import Corpus
from gr2.retrieve.neighbours import Neighbours, remember

WINDOWS = (1, 3, 10)
"""How many places after an item another one still counts as following it."""


@dataclass(frozen=True, kw_only=True)
class Visits:
    """First training events of all users, and counts of pairs."""

    user_row: dict[str, int]
    neighbours: Neighbours
    """The (E,) first events themselves, in order of user and item."""
    times: np.ndarray
    """(E,) seconds since `origin`."""
    origin: int
    clock: np.ndarray
    """(E,) int64 `item * SPAN + time`, rising."""
    popularity: np.ndarray
    """(N,) users with the item."""
    together: csr_matrix
    """(N, N) users with both items."""
    after: dict[int, csr_matrix]
    """window w -> (N, N): [i, j] = users with j at most w places after i."""

    def place(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The place of the item in the user's timeline; -1 where it has none."""
        return self.neighbours.place(users, items)

    def others_with(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Other users with the item."""
        return self.popularity[items] - (self.place(users, items) >= 0)

    def others_together(self, users: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Other users with both items."""
        own = (self.place(users, a) >= 0) & (self.place(users, b) >= 0)
        return look_up(self.together, a, b) - own

    def others_after(self, window: int, users: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Other users with `b` at most `window` places after `a`."""
        first, second = self.place(users, a), self.place(users, b)
        own = (first >= 0) & (second > first) & (second - first <= window)
        return look_up(self.after[window], a, b) - own

    def others_between(self, users: np.ndarray, items: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Other users whose first event with the item lies in [start, stop) seconds."""
        start, stop = (np.clip(t - self.origin, 0, SPAN - 1) for t in (start, stop))
        n = np.searchsorted(self.clock, items * SPAN + stop) - np.searchsorted(self.clock, items * SPAN + start)
        own = self._first_time(users, items)
        return n - ((own >= start) & (own < stop))

    def _first_time(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        keys = self.neighbours.keys
        key = users * self.neighbours.n_items + items
        at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return np.where((keys[at] == key) & (users >= 0), self.times[at], -1)


def count(corpus: Corpus) -> Visits:
    """Count the training events."""
    n, users = len(corpus.items), len(corpus.timelines)
    origin = min((t.times[0] for t in corpus.timelines if t.times), default=0)
    firsts = [first_events(t, corpus.row) for t in corpus.timelines]
    user = np.repeat(np.arange(users), [len(f) for f in firsts])
    item = _join(list(f.keys()) for f in firsts)
    time = _join(list(f.values()) for f in firsts) - origin
    neighbours = remember(corpus)
    together = csr_matrix(neighbours.has.T @ neighbours.has)
    together.sort_indices()  # else every look-up scans a whole row
    return Visits(
        user_row={t.user_id: row for row, t in enumerate(corpus.timelines)},
        neighbours=neighbours,
        times=time[np.argsort(user * n + item)],
        origin=origin,
        clock=np.sort(item * SPAN + time),
        popularity=np.bincount(item, minlength=n),
        together=together,
        after={w: _after(user, item, w, n) for w in WINDOWS},
    )


def _after(user: np.ndarray, item: np.ndarray, window: int, n: int) -> csr_matrix:
    """Events lie user by user in order, so those d apart of one user are d apart in the arrays."""
    same = [(d, user[:-d] == user[d:]) for d in range(1, window + 1)]
    first = _join(item[:-d][kept] for d, kept in same)
    second = _join(item[d:][kept] for d, kept in same)
    return coo_matrix((np.ones(len(first), np.float32), (first, second)), shape=(n, n)).tocsr()


def _join(parts: Iterable) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *(np.asarray(part, dtype=np.int64) for part in parts)])
