"""Residual k-means++: each level clusters what the levels above left over (P1 §2.3 technique 1, without the RQ-VAE)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from gr2.progress import track

STARTS = 3
"""Fresh k-means++ starts a level, of which the best is kept (ours)."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What residual k-means made of N vectors; ids may still collide."""

    codes: np.ndarray
    """(N, L) int64."""
    codebooks: tuple[np.ndarray, ...]
    """One (codebook size, D) float32 a level."""
    residuals: tuple[np.ndarray, ...]
    """One (N, D) float32 a level: what is left of the vectors after that level."""


def residual_kmeans(vectors: np.ndarray, codebook_sizes: Sequence[int], *, seed: int) -> Quantized:
    """Codes for `vectors` (N, D) float32, general level first. One thread, so that a seed means one result."""
    residual = vectors.astype(np.float32)
    codes, codebooks, residuals = [], [], []
    with threadpool_limits(limits=1):
        for level, size in enumerate(track(codebook_sizes, "residual k-means")):
            book, labels = _cluster(residual, size, seed + level)
            residual = residual - book[labels]
            codes.append(labels)
            codebooks.append(book)
            residuals.append(residual)
    return Quantized(codes=np.stack(codes, axis=1), codebooks=tuple(codebooks), residuals=tuple(residuals))


def _cluster(points: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codebook (size, D) and labels (N,). With fewer points than codes, the codes left over are zeros."""
    k = min(size, len(points))
    with warnings.catch_warnings():
        # Identical points make fewer clusters than asked for; the repair in assign.py separates them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(n_clusters=k, n_init=STARTS, random_state=seed).fit(points)
    book = np.zeros((size, points.shape[1]), dtype=np.float32)
    book[:k] = fit.cluster_centers_
    return book, fit.labels_.astype(np.int64)
