"""Folds of users, for everything that must not have learned from the user it is shown for (DESIGN §5)."""

from collections.abc import Sequence

import numpy as np


def user_folds(user_ids: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """user id -> fold (0 to folds - 1), at random; the folds differ by at most one user."""
    numbers = np.random.default_rng(seed).permutation(len(user_ids)) % folds
    return {user: int(fold) for user, fold in zip(user_ids, numbers, strict=True)}
