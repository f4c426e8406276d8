"""Folds of users, for everything that must not have learned from the user it is shown for (ours)."""

from collections.abc import Sequence

import numpy as np

from gr2.types import Slate

HELD_OUT = 5
"""One training user in five decides how long something is fitted."""


def user_folds(user_ids: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """user id -> fold (0 to folds - 1), at random; the folds differ by at most one user."""
    numbers = np.random.default_rng(seed).permutation(len(user_ids)) % folds
    return {user: int(fold) for user, fold in zip(user_ids, numbers, strict=True)}


def slate_folds(slates: Sequence[Slate], folds: int, seed: int) -> np.ndarray:
    """(S,) the fold of each slate's user."""
    fold_of = user_folds(list(dict.fromkeys(s.user_id for s in slates)), folds, seed)
    return np.array([fold_of[s.user_id] for s in slates], dtype=np.int64)


def held_out_fifth(slates: Sequence[Slate], seed: int) -> np.ndarray:
    """(S,) bool: the slates of one user in HELD_OUT, at random; none where there are fewer users."""
    users = sorted({s.user_id for s in slates})
    chosen = set(np.random.default_rng(seed).permutation(users)[: len(users) // HELD_OUT])
    return np.array([s.user_id in chosen for s in slates], dtype=bool)
