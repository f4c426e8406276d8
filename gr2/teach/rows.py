"""Slates as rows of the catalogue: padded integer tables, so that evidence is counted for many at once. (ours)

Shapes: S slates, K candidates, H history events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gr2.types import Slate


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Slates without their gains: what a teacher may look at."""

    users: np.ndarray
    """(S,) row of the timeline; -1 for a user without one."""
    times: np.ndarray
    """(S,) seconds: the cut-off."""
    history: np.ndarray
    """(S, H) catalogue rows, newest first, then -1."""
    candidates: np.ndarray
    """(S, K) catalogue rows in incoming order, then -1."""
    scores: np.ndarray
    """(S, K) log of the softmax of the incoming scores; 0 where there is no candidate."""

    @property
    def real(self) -> np.ndarray:
        """(S, K) bool: where there is a candidate."""
        return self.candidates >= 0

    def part(self, where: slice | np.ndarray) -> "Rows":
        """Some of the slates."""
        return Rows(
            users=self.users[where],
            times=self.times[where],
            history=self.history[where],
            candidates=self.candidates[where],
            scores=self.scores[where],
        )


def as_rows(slates: Sequence[Slate], row: Mapping[str, int], user_row: Mapping[str, int], length: int) -> Rows:
    """`row`: item id -> catalogue row; `length`: how many of the newest history events are looked at."""
    candidates = _padded([[row[i] for i in s.candidates] for s in slates], -1)
    raw = _padded([s.scores for s in slates], -np.inf)
    shifted = raw - raw.max(1, keepdims=True, initial=-np.inf)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return Rows(
        users=np.array([user_row.get(s.user_id, -1) for s in slates], dtype=np.int64),
        times=np.array([s.time for s in slates], dtype=np.int64),
        history=_padded([[row[i] for i in s.history[: -length - 1 : -1]] for s in slates], -1, at_least=1),
        candidates=candidates,
        scores=np.where(candidates >= 0, log_softmax, 0.0),
    )


def _padded(lists: Sequence[Sequence[float]], filling: float, at_least: int = 0) -> np.ndarray:
    """(S, longest) table; int64 when `filling` is an int."""
    width = max([at_least, *(len(values) for values in lists)])
    table = np.full((len(lists), width), filling, dtype=np.int64 if isinstance(filling, int) else np.float64)
    for filled, values in zip(table, lists, strict=True):
        filled[: len(values)] = values
    return table
