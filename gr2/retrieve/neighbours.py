"""What the users most like this one did next: a memory-based second opinion beside the pre-ranker's. (ours)

Neighbours are found by the recent past that they share; each votes for a candidate that it took near those shared
items in its own timeline. Only training events are read, and a user never votes for itself, so a training slate's own
target is not in its votes. A model that learns weights cannot hold every timeline; a look-up can, so the prompt names
the candidates with the most votes.

Shapes: U users, N items, E first events, S slates, K candidates, H history events, M neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from gr2.artifacts import Corpus
from gr2.record import reading
from gr2.types import Slate, Split

NEIGHBOURS = 200
"""Users that are asked about a slate."""
RECENT = 10
"""Newest history events that make the recent past."""
FADING = 0.85
"""Weight of a history event relative to the one after it."""
NEARBY = 10.0
"""Places between two items of a timeline at which their nearness has halved."""
NO_VOTE = 1e-3
"""Added to votes before their logarithm is taken."""
CHUNK = 256
FILE = "neighbours.safetensors"


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The distinct training items of all users, in the order of their first events."""

    n_items: int
    n_users: int
    keys: np.ndarray
    """(E,) int64 `user * N + item`, rising."""
    places: np.ndarray
    """(E,) int32: which of the user's distinct items it was, from 0."""

    def place(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The place of the item in the user's timeline; -1 where it has none. The arrays broadcast."""
        key = users * self.n_items + items
        at = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        return np.where((self.keys[at] == key) & (users >= 0), self.places[at], -1)

    @cached_property
    def has(self) -> csr_matrix:
        """(U, N) 1 where the user has the item."""
        user, item = np.divmod(self.keys, self.n_items)
        return csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=(self.n_users, self.n_items))

    def save(self, folder: Path) -> None:
        sizes = np.array([self.n_users, self.n_items])
        save_file({"keys": self.keys, "places": self.places, "sizes": sizes}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "Neighbours":
        """Raises UserError when the file is absent or spoilt."""
        with reading(folder / FILE):
            tables = load_file(folder / FILE)
        n_users, n_items = tables["sizes"].tolist()
        return cls(n_items=n_items, n_users=n_users, keys=tables["keys"], places=tables["places"])


def remember(corpus: Corpus) -> Neighbours:
    """Read the training events."""
    n = len(corpus.items)
    rows = [(user, _first_items(t.item_ids, t.splits, corpus.row)) for user, t in enumerate(corpus.timelines)]
    keys = np.array([user * n + item for user, items in rows for item in items], dtype=np.int64)
    places = np.array([place for _, items in rows for place in range(len(items))], dtype=np.int32)
    order = np.argsort(keys)
    return Neighbours(n_items=n, n_users=len(rows), keys=keys[order], places=places[order])


def user_rows(corpus: Corpus) -> dict[str, int]:
    """User id -> row of U."""
    return {t.user_id: row for row, t in enumerate(corpus.timelines)}


def _first_items(item_ids: Sequence[str], splits: Sequence[Split], row: Mapping[str, int]) -> list[int]:
    return list(dict.fromkeys(row[i] for i, s in zip(item_ids, splits, strict=True) if s is Split.TRAIN))


def with_votes(
    slates: Sequence[Slate], neighbours: Neighbours, row: Mapping[str, int], user_row: Mapping[str, int]
) -> tuple[Slate, ...]:
    """The slates with their votes. `row`: item id -> catalogue row; `user_row`: user id -> row of U, of those who are
    neighbours themselves."""
    has = neighbours.has
    asked: list[Slate] = []
    for at in range(0, len(slates), CHUNK):
        part = slates[at : at + CHUNK]
        users = np.array([user_row.get(s.user_id, -1) for s in part], dtype=np.int64)
        history = _table([[row[i] for i in s.history[: -RECENT - 1 : -1]] for s in part])
        candidates = _table([[row[i] for i in s.candidates] for s in part])
        votes_SK = votes(neighbours, has, users, history, candidates).tolist()
        asked += [replace(s, votes=tuple(v[: len(s.candidates)])) for s, v in zip(part, votes_SK, strict=True)]
    return tuple(asked)


def votes(
    neighbours: Neighbours, has: csr_matrix, users: np.ndarray, history: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """(S, K) how many neighbours took each candidate near what was just seen; who took it nearest weighs most.

    `users` (S,) rows, -1 for somebody new; `history` (S, H) catalogue rows, newest first, then -1; `candidates` (S, K)
    catalogue rows, then -1; `has` is `neighbours.has`.
    """
    if not neighbours.n_users or not len(neighbours.keys):
        return np.zeros(candidates.shape)
    history = history[:, :RECENT]
    viewers, weights = _nearest(has, users, history)
    seen = neighbours.place(viewers[:, :, None], np.maximum(candidates, 0)[:, None, :]).astype(np.float32)
    past = neighbours.place(viewers[:, :, None], np.maximum(history, 0)[:, None, :]).astype(np.float32)
    past[(past < 0) | (history[:, None] < 0)] = np.inf
    near = np.zeros_like(seen)
    for age in range(history.shape[1]):
        near += FADING**age / (1 + np.abs(seen - past[:, :, age, None]) / NEARBY)
    near *= (seen >= 0) & (candidates >= 0)[:, None]
    return np.einsum("smk,sm->sk", near**3, weights)


def _nearest(has: csr_matrix, users: np.ndarray, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, M) the other users who share most of the recent past, and what each one's word weighs."""
    slate, age = np.nonzero(history >= 0)
    fading = (FADING**age).astype(np.float32)
    recent = csr_matrix((fading, (slate, history[slate, age])), shape=(len(users), has.shape[1]))
    breadth = np.sqrt(np.diff(has.indptr) + 20.0)
    shared = (recent @ has.T).toarray() / np.sqrt(breadth)
    known = np.flatnonzero(users >= 0)
    shared[known, users[known]] = 0
    wanted = min(NEIGHBOURS, shared.shape[1])
    viewers = np.argpartition(-shared, wanted - 1, axis=1)[:, :wanted]
    return viewers, (np.take_along_axis(shared, viewers, axis=1) > 0) / breadth[viewers]


def _table(lists: Sequence[Sequence[int]]) -> np.ndarray:
    """(S, longest) catalogue rows, then -1; one column at least."""
    table = np.full((len(lists), max([1, *map(len, lists)])), -1, dtype=np.int64)
    for filled, values in zip(table, lists, strict=True):
        filled[: len(values)] = values
    return table
