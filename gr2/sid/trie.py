"""Which code may come next: an exact prefix trie over the ids that exist, in sorted arrays (ours).

A node of level l is a distinct prefix of l + 1 codes; a level keeps its nodes in order, so the children of a node are a
slice of the next level. Levels hold one code a node and where its children start: about 10 bytes an id and level at
most, and no Python object.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

Codes = tuple[int, ...]


class Trie:
    """All prefixes of a set of ids of one length. An empty answer never means "anything goes": it is never given."""

    def __init__(self, codes: Iterable[Sequence[int]] | np.ndarray) -> None:
        """`codes` is (N, L), N >= 1, equal rows counted once; raises ValueError when empty, ragged or negative."""
        rows = _sorted_rows(codes)
        self.depth = rows.shape[1]
        self.size = len(rows)
        # Row at which each node of each level begins.
        differs = np.arange(len(rows)) == 0
        firsts = []
        for level in range(self.depth):
            differs[1:] |= rows[1:, level] != rows[:-1, level]
            firsts.append(np.flatnonzero(differs))
        offset = np.min_scalar_type(len(rows))
        self._codes = [rows[first, level] for level, first in enumerate(firsts)]
        self._starts = [
            np.searchsorted(below, np.append(first, len(rows))).astype(offset) for first, below in pairwise(firsts)
        ]

    def __len__(self) -> int:
        return self.size

    def __contains__(self, codes: Sequence[int]) -> bool:
        return len(codes) == self.depth and self._slice(codes) is not None

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (*self._codes, *self._starts))

    def allowed(self, prefix: Sequence[int]) -> Codes:
        """The codes that may follow `prefix`, sorted, at least one.

        Raises ValueError when no id starts with `prefix`, or when it is a whole id already.
        """
        found = self._slice(prefix)
        if found is None or len(prefix) >= self.depth:
            reason = "is a whole id" if found is not None else "starts no id"
            raise ValueError(f"prefix {tuple(prefix)} {reason}")
        return tuple(self._codes[len(prefix)][found[0] : found[1]].tolist())

    def mask(self, prefixes: np.ndarray, size: int) -> np.ndarray:
        """(B, size) bool: the codes below `size` that may follow each of `prefixes` (B, l), l < L, such as beams.

        Raises ValueError with the first prefix that starts no id, when prefixes are whole ids, or `size` is too small.
        """
        prefixes = np.asarray(prefixes, dtype=np.int64)
        n, length = prefixes.shape
        if length >= self.depth:
            raise ValueError(f"prefixes of {length} codes are whole ids")
        low, high = self._slices(prefixes)
        if (low == high).any():
            raise ValueError(f"prefix {tuple(prefixes[int((low == high).argmax())].tolist())} starts no id")
        count = high - low
        beam = np.repeat(np.arange(n), count)
        node = np.arange(len(beam)) + np.repeat(low - (np.cumsum(count) - count), count)
        out = np.zeros((n, size), dtype=bool)
        try:
            out[beam, self._codes[length][node]] = True
        except IndexError:
            raise ValueError(f"an allowed code is not below {size}") from None
        return out

    def restrict(self, codes: Iterable[Sequence[int]]) -> "Trie":
        """The trie of only these ids, such as a slate's candidates.

        Raises ValueError when `codes` is empty or holds an id that this trie lacks.
        """
        rows = [tuple(int(c) for c in row) for row in codes]
        if unknown := [row for row in rows if row not in self]:
            raise ValueError(f"not in the trie: {min(unknown)}")
        return Trie(rows)

    def _slice(self, prefix: Sequence[int]) -> tuple[int, int] | None:
        """Where `prefix`'s children stand in their level, (0, 0) for a whole id; None when no id starts with it."""
        if len(prefix) > self.depth:
            return None
        low, high = 0, len(self._codes[0])
        for level, code in enumerate(prefix):
            node = low + int(self._codes[level][low:high].searchsorted(code))
            if node == high or self._codes[level][node] != code:
                return None
            if level + 1 == self.depth:
                return 0, 0
            starts = self._starts[level]
            low, high = int(starts[node]), int(starts[node + 1])
        return low, high

    def _slices(self, prefixes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Starts and ends (B,) of the children of `prefixes` (B, l); equal where no id starts with the prefix."""
        low = np.zeros(len(prefixes), dtype=np.int64)
        high = np.full(len(prefixes), len(self._codes[0]), dtype=np.int64)
        for codes, starts, code in zip(self._codes, self._starts, prefixes.T, strict=False):
            node = _search(codes, low, high, code)
            known = node < high
            node = np.minimum(node, len(codes) - 1)
            known &= codes[node] == code
            low = np.where(known, starts[node].astype(np.int64), 0)
            high = np.where(known, starts[node + 1].astype(np.int64), 0)
        return low, high


def _sorted_rows(codes: Iterable[Sequence[int]] | np.ndarray) -> np.ndarray:
    """The distinct rows in order, (N, L) of the smallest unsigned type."""
    try:
        rows = np.asarray(codes if isinstance(codes, np.ndarray) else [tuple(row) for row in codes])
    except ValueError:
        raise ValueError("all ids of a trie have one length") from None
    if not rows.size:
        raise ValueError("a trie needs at least one id")
    if rows.ndim != 2 or rows.min() < 0:
        raise ValueError("ids of a trie are (N, L) codes from 0 on")
    rows = rows.astype(np.min_scalar_type(int(rows.max())))
    rows = rows[np.lexsort(rows.T[::-1])]
    return rows[np.r_[True, (rows[1:] != rows[:-1]).any(axis=1)]]


def _search(codes: np.ndarray, low: np.ndarray, high: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Of each slice [low, high) (B,) of `codes`, sorted within it, the first place (B,) not below `code` (B,)."""
    low, high = low.copy(), high.copy()
    while (low < high).any():
        middle = (low + high) // 2
        below = (low < high) & (codes[np.minimum(middle, len(codes) - 1)] < code)
        low = np.where(below, middle + 1, low)
        high = np.where(below, high, np.minimum(middle, high))
    return low
