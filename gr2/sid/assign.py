"""Uniqueness as a guarantee: items that share a prefix get distinct last codes at the least cost (ours; method §1).

Room is made from the general level to the special one. A code of level l has room for as many items as
there are free ids below it (one at the last level). Where more items want it, the ones that lose least move to
the nearest code with room under the same parent; at the last level that is an exact least-cost assignment.
A parent never holds more items than its ids, so there is always room below: identical items separate too.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
from scipy.optimize import linear_sum_assignment

from gr2.errors import UserError

ROWS = 8192
"""Rows whose distances to a codebook are held at once: N x codes never is (8192 x 256 float64 are 17 MB)."""
LARGE = 128
"""Codes of a full prefix from which its assignment is worth preparing: below, it takes some milliseconds at most."""


def unique_codes(
    vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray], taken: np.ndarray | None = None
) -> np.ndarray:
    """`codes` (N, L) of `vectors` (N, D) with as few and as small changes as make every row differ.

    None of `taken` (T, L), distinct ids that are given already, is given again. Ties between identical vectors go by
    row, so sort rows by item id for an answer blind to their order.
    Raises UserError when there are more items than free ids, or a vector is not finite.
    """
    sizes = [len(book) for book in codebooks]
    given = codes[:0] if taken is None else taken
    check_room(len(codes) + len(given), sizes)
    check_finite(vectors)
    every = np.concatenate([given, codes]).astype(np.int64)
    codes = every[len(given) :]
    residual = vectors.astype(np.float32)
    parent = np.zeros(len(every), dtype=np.int64)
    for level, book in enumerate(codebooks):
        room = min(prod(sizes[level + 1 :]), len(every))
        for rows in _crowded(parent, every[:, level], room):
            free = room - np.bincount(every[rows[rows < len(given)], level], minlength=sizes[level])
            rows = rows[rows >= len(given)] - len(given)
            moved_to = _settle(residual[rows], codes[rows, level], book, free, last=room == 1)
            moved = rows[moved_to != codes[rows, level]]
            codes[rows, level] = moved_to
            codes[moved, level + 1 :] = nearest_codes(
                residual[moved] - book[codes[moved, level]], codebooks[level + 1 :]
            )
        residual -= book[codes[:, level]]
        parent = np.unique(parent * sizes[level] + every[:, level], return_inverse=True)[1]
    return codes


def check_room(n_items: int, sizes: Sequence[int]) -> None:
    """Raises UserError when `n_items` are more than the ids that codebooks of `sizes` make."""
    if n_items > prod(sizes):
        raise UserError(
            f"[sids] codebook_sizes {list(sizes)} make {prod(sizes)} ids for {n_items} items: give more levels or codes"
        )


def check_finite(vectors: np.ndarray, first: int = 0) -> None:
    """Raises UserError with the first row, counted from `first`, of `vectors` (N, D) that holds NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(f"item vectors, row {first + bad[0]}: NaN or infinity; embed that item again or leave it out")


def nearest_codes(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """(N, number of codebooks) int64: level by level the nearest code of what is left of `vectors` (N, D)."""
    codes = np.zeros((len(vectors), len(codebooks)), dtype=np.int64)
    for start in range(0, len(vectors), ROWS):
        rows = slice(start, start + ROWS)
        residual = vectors[rows]
        for level, book in enumerate(codebooks):
            codes[rows, level] = squared_distances(residual, book).argmin(axis=1)
            residual = residual - book[codes[rows, level]]
    return codes


def reconstruct(codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """(N, D): the sums of the codes (N, L)."""
    return np.sum([book[codes[:, level]] for level, book in enumerate(codebooks)], axis=0)


def squared_distances(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """(N, K) float64 for (N, D) and (K, D)."""
    v, b = vectors.astype(np.float64), book.astype(np.float64)
    distances = v @ (-2 * b.T)
    distances += (v**2).sum(axis=1)[:, None]
    distances += (b**2).sum(axis=1)
    return np.maximum(distances, 0, out=distances)


def _crowded(parent: np.ndarray, code: np.ndarray, room: int) -> Iterator[np.ndarray]:
    """Rows (m,) of each parent, given by number (N,), below which some code (N,) holds more than `room` items."""
    key = parent * (int(code.max(initial=0)) + 1) + code
    by_key = np.argsort(key, kind="stable")
    start = np.flatnonzero(np.r_[True, key[by_key[1:]] != key[by_key[:-1]]]) if len(key) else np.zeros(0, np.int64)
    count = np.diff(np.r_[start, len(key)])
    # Sorted by key means sorted by parent too.
    of_parent = parent[by_key]
    crowded = np.unique(of_parent[start[count > room]])
    low, high = np.searchsorted(of_parent, crowded), np.searchsorted(of_parent, crowded, side="right")
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        yield np.sort(by_key[a:b])


def _settle(residual: np.ndarray, wanted: np.ndarray, book: np.ndarray, free: np.ndarray, *, last: bool) -> np.ndarray:
    """Codes (m,) for items of one parent, at most `free` (K,) of each: at the last level the least-cost assignment."""
    if not last:
        return spill(residual, wanted, book, free)
    columns = np.flatnonzero(free > 0)
    costs = squared_distances(residual, book[columns])
    if len(costs) == len(columns) >= LARGE:
        # All are used, so what a row or a column costs at least belongs to every answer: without it a full prefix of
        # 256 codes, the dearest of all, is settled three times as fast.
        costs -= costs.min(axis=1, keepdims=True)
        costs -= costs.min(axis=0)
    return columns[linear_sum_assignment(costs)[1]]


def spill(residual: np.ndarray, wanted: np.ndarray, book: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Codes (m,) of at most `free` (K,) items each: of a full code the items that lose least by moving move.

    Greedy: always the cheapest move next. Each round ends when a code that took items in is full; then the items whose
    nearest open code it was look for another one.
    """
    given = wanted.copy()
    held = np.bincount(wanted, minlength=len(free))
    rows = np.flatnonzero((held > free)[wanted])
    best, loss = _nearest_open(residual[rows], given[rows], book, held < free)
    while len(rows):
        order = np.argsort(loss, kind="stable")
        for i in order.tolist():
            source, target = given[rows[i]], best[i]
            if held[source] <= free[source]:
                continue
            given[rows[i]] = target
            held[source] -= 1
            held[target] += 1
            if held[target] == free[target]:
                break
        left = (given[rows] == wanted[rows]) & (held > free)[wanted[rows]]
        rows, best, loss = rows[left], best[left], loss[left]
        again = held[best] >= free[best]
        best[again], loss[again] = _nearest_open(residual[rows[again]], given[rows[again]], book, held < free)
    return given


def _nearest_open(
    residual: np.ndarray, code: np.ndarray, book: np.ndarray, is_open: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest code (m,) among the open ones (K,) and the squared distance (m,) it is farther than `code` (m,)."""
    best, loss = np.zeros(len(code), dtype=np.int64), np.zeros(len(code))
    for start in range(0, len(code), ROWS):
        rows = slice(start, start + ROWS)
        costs = squared_distances(residual[rows], book)
        here = costs[np.arange(len(costs)), code[rows]]
        costs[:, ~is_open] = np.inf
        best[rows] = costs.argmin(axis=1)
        loss[rows] = costs.min(axis=1) - here
    return best, loss
