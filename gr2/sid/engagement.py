"""Items that the same people touch close together get close vectors (the aim of P1 §2.3's contrastive loss; ours)."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

SMOOTHING = 0.75
"""Exponent on the context counts: keeps rare items from owning the largest values (Levy et al. 2015)."""


def co_visitation_vectors(
    sequences: Sequence[Sequence[str]], row: Mapping[str, int], *, dims: int, window: int
) -> np.ndarray:
    """(N, dims) float32: truncated SVD, U sqrt(S), of the items' positive pointwise mutual information.

    Give it training sequences only. Two events of one user at most `window` apart count 1 / their distance, so a
    neighbour weighs more than a far one. Items without a neighbour get zeros, and so do dims beyond the matrix's rank.
    """
    matrix = ppmi(_counts(sequences, row, window))
    vectors = np.zeros((len(row), dims), dtype=np.float32)
    k = min(dims, len(row) - 1)
    if k > 0 and matrix.nnz:
        start = np.random.default_rng(0).standard_normal(len(row))
        u, s, _ = svds(matrix, k=k, v0=start)
        order = np.argsort(-s)
        u, s = u[:, order], s[order]
        sign = np.sign(u[np.abs(u).argmax(axis=0), np.arange(k)])
        vectors[:, :k] = u * sign * np.sqrt(s)
    vectors[matrix.getnnz(axis=1) == 0] = 0
    return vectors


def ppmi(counts: csr_matrix) -> csr_matrix:
    """max(0, log p(i, j) / (p(i) q(j))) for symmetric counts (N, N), where q is p with its counts to the power 0.75."""
    pairs = counts.tocoo()
    total = np.asarray(counts.sum(axis=1)).ravel()
    context = total**SMOOTHING
    value = np.log(pairs.data * context.sum() / (total[pairs.row] * context[pairs.col]))
    kept = value > 0
    return csr_matrix((value[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape)


def co_engaged_pairs(sequences: Sequence[Sequence[str]], row: Mapping[str, int], *, window: int) -> np.ndarray:
    """(M, 2) int64: rows of two items that one user touched at most `window` events apart, once an occurrence.

    Give it training sequences only. Sorted, so that the order of the users does not matter.
    """
    pairs = [np.stack([left, right], axis=1) for _, left, right in _neighbours(sequences, row, window)]
    both_ways = np.concatenate([np.concatenate(pairs), np.concatenate(pairs)[:, ::-1]])
    return both_ways[np.lexsort(both_ways.T[::-1])]


def _counts(sequences: Sequence[Sequence[str]], row: Mapping[str, int], window: int) -> csr_matrix:
    """(N, N) symmetric float64; the diagonal is empty."""
    counts = csr_matrix((len(row), len(row)), dtype=np.float64)
    for gap, left, right in _neighbours(sequences, row, window):
        counts += csr_matrix((np.full(len(left), 1 / gap), (left, right)), shape=counts.shape)
    return counts + counts.T


def _neighbours(
    sequences: Sequence[Sequence[str]], row: Mapping[str, int], window: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(gap, earlier rows, later rows) for every gap up to `window`; an item is not its own neighbour."""
    rows = np.array([row[i] for s in sequences for i in s], dtype=np.int64)
    owner = np.repeat(np.arange(len(sequences)), [len(s) for s in sequences])
    for gap in range(1, window + 1):
        left, right = rows[:-gap], rows[gap:]
        same = (owner[:-gap] == owner[gap:]) & (left != right)
        yield gap, left[same], right[same]
