"""Uniqueness as a guarantee: items that share a prefix get distinct last codes at the least cost (ours; METHOD §1).

Room is made from the general level to the special one. A code of level l has room for as many items as
there are ids below it (one at the last level). Where more items want it, the ones that lose least move to
the nearest code with room under the same parent; at the last level that is an exact least-cost assignment.
A parent never holds more items than its ids, so there is always room below: identical items separate too.
"""

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
from scipy.optimize import linear_sum_assignment

from gr2.errors import UserError


def unique_codes(vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """`codes` (N, L) of `vectors` (N, D) with as few and as small changes as make every row differ.

    Ties between identical vectors go by row, so sort rows by item id for an answer blind to their order.
    Raises UserError when the catalogue has more items than there are ids.
    """
    sizes = [len(book) for book in codebooks]
    if len(codes) > prod(sizes):
        raise UserError(
            f"[sids] codebook_sizes {sizes} make {prod(sizes)} ids for {len(codes)} items: give more levels or codes"
        )
    codes = codes.copy()
    residual = vectors.astype(np.float32)
    parent = np.zeros(len(codes), dtype=np.int64)
    for level, book in enumerate(codebooks):
        room = prod(sizes[level + 1 :])
        for rows in _crowded(parent, codes[:, level], room):
            costs = squared_distances(residual[rows], book)
            moved_to = linear_sum_assignment(costs)[1] if room == 1 else _spill(costs, codes[rows, level], room)
            moved = rows[moved_to != codes[rows, level]]
            codes[rows, level] = moved_to
            codes[moved, level + 1 :] = nearest_codes(
                residual[moved] - book[codes[moved, level]], codebooks[level + 1 :]
            )
        residual = residual - book[codes[:, level]]
        parent = np.unique(parent * sizes[level] + codes[:, level], return_inverse=True)[1]
    return codes


def nearest_codes(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """(N, number of codebooks) int64: level by level the nearest code of what is left of `vectors` (N, D)."""
    codes = np.zeros((len(vectors), len(codebooks)), dtype=np.int64)
    for level, book in enumerate(codebooks):
        codes[:, level] = squared_distances(vectors, book).argmin(axis=1)
        vectors = vectors - book[codes[:, level]]
    return codes


def squared_distances(vectors: np.ndarray, book: np.ndarray) -> np.ndarray:
    """(N, K) float64 for (N, D) and (K, D)."""
    v, b = vectors.astype(np.float64), book.astype(np.float64)
    return np.maximum((v**2).sum(1)[:, None] - 2 * v @ b.T + (b**2).sum(1), 0)


def _crowded(parent: np.ndarray, code: np.ndarray, room: int) -> Iterator[np.ndarray]:
    """Rows (m,) of each parent, given by number (N,), below which some code (N,) holds more than `room` items."""
    pairs, count = np.unique(np.stack([parent, code]), axis=1, return_counts=True)
    by_parent = np.argsort(parent, kind="stable")
    for number in np.unique(pairs[0, count > room]):
        low, high = np.searchsorted(parent, [number, number + 1], sorter=by_parent)
        yield by_parent[low:high]


def _spill(costs: np.ndarray, wanted: np.ndarray, room: int) -> np.ndarray:
    """Codes (m,) with at most `room` items each: of a full code the items that lose least by moving move."""
    given = wanted.copy()
    held = np.bincount(wanted, minlength=costs.shape[1])
    while (held > room).any():
        open_costs = np.where(held < room, costs, np.inf)
        best = open_costs.argmin(axis=1)
        loss = np.where(held[given] > room, open_costs.min(axis=1) - costs[np.arange(len(costs)), given], np.inf)
        item = int(loss.argmin())
        held[given[item]] -= 1
        held[best[item]] += 1
        given[item] = best[item]
    return given
