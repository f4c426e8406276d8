"""Vectors -> codes, level by level: residual k-means++ (P1 §2.3 technique 1, no RQ-VAE), and random last codes.

A quantizer is a plain function `(vectors, codebook_sizes, *, seed) -> Quantized`: this file's `residual_kmeans`, or
`rqvae` of rqvae.py.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from gr2.progress import track

LEVELS = 4
"""P1 §2.1."""
MOST_CODES = 256
"""A level never gets more by default: a code fits a byte, and 4 x 256 (OneRec-Think) are 4.3 billion ids."""
STARTS = 3
"""Fresh k-means++ starts a level, of which the best is kept (ours)."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What a quantizer made of N vectors (N, D); ids may still collide."""

    codes: np.ndarray
    """(N, L) int64."""
    codebooks: tuple[np.ndarray, ...]
    """One (codebook size, P) float32 a level."""
    points: np.ndarray
    """(N, P) float32: what the codebooks divide up; the vectors themselves, or what an encoder made of them."""
    decode: Callable[[np.ndarray], np.ndarray]
    """(N, P) sums of codes -> (N, D) vectors; the identity without an encoder."""
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    """What later items are encoded with (`rqvae.encode`); empty without an encoder."""


def default_sizes(n_items: int) -> tuple[int, ...]:
    """Sizes of `LEVELS` codebooks for a catalogue: the smallest power of two whose square is above 2 `n_items` (ours).

    So two codes alone could name twice the catalogue, and the others tell apart what lies close together. At most
    `MOST_CODES`, which 8,192 items reach: Beauty, Toys and Sports get 4 x 256, the 1,682 films of MovieLens 4 x 64.
    """
    size = 2
    while size < MOST_CODES and size**2 <= 2 * n_items:
        size *= 2
    return (size,) * LEVELS


def residual_kmeans(
    vectors: np.ndarray, codebook_sizes: Sequence[int], *, seed: int, starts: int = STARTS
) -> Quantized:
    """Codes for `vectors` (N, D) float32, general level first. One thread, so that a seed means one result."""
    residual = vectors.astype(np.float32)
    codes, codebooks = [], []
    with threadpool_limits(limits=1):
        for level, size in enumerate(track(codebook_sizes, "residual k-means")):
            book, labels = _cluster(residual, size, seed + level, starts)
            residual = residual - book[labels]
            codes.append(labels)
            codebooks.append(book)
    return Quantized(
        codes=np.stack(codes, axis=1),
        codebooks=tuple(codebooks),
        points=vectors.astype(np.float32),
        decode=lambda sums: sums,
    )


def _cluster(points: np.ndarray, size: int, seed: int, starts: int) -> tuple[np.ndarray, np.ndarray]:
    """Codebook (size, D) and labels (N,). With fewer points than codes, the codes left over are zeros."""
    k = min(size, len(points))
    with warnings.catch_warnings():
        # Identical points make fewer clusters than asked for; the repair in assign.py separates them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit = KMeans(n_clusters=k, n_init=starts, random_state=seed).fit(points)
    book = np.zeros((size, points.shape[1]), dtype=np.float32)
    book[:k] = fit.cluster_centers_
    return book, fit.labels_.astype(np.int64)


def random_last(
    codes: np.ndarray, codebook_sizes: Sequence[int], *, levels: int, unused: bool, seed: int
) -> np.ndarray:
    """`codes` (N, L) with their last `levels` (fewer than L) drawn anew at random (P1 §2.3 technique 5).

    P1's sources disagree whether among all codes or, with `unused`, among those that no other item of the same
    prefix has drawn; where a prefix holds more items than codes, some come twice all the same.
    """
    rng = np.random.default_rng(seed)
    tail = tuple(codebook_sizes[-levels:])
    if unused:
        drawn = np.empty(len(codes), dtype=np.int64)
        group, count = np.unique(codes[:, :-levels], axis=0, return_inverse=True, return_counts=True)[1:]
        for rows in np.split(np.argsort(group, kind="stable"), np.cumsum(count)[:-1]):
            drawn[rows] = _distinct_draws(rng, len(rows), prod(tail))
    else:
        drawn = rng.integers(0, prod(tail), len(codes))
    return np.concatenate([codes[:, :-levels], np.stack(np.unravel_index(drawn, tail), axis=1)], axis=1)


def _distinct_draws(rng: np.random.Generator, n: int, room: int) -> np.ndarray:
    """(n,) numbers below `room`, none twice unless n > room, and then none much more often than another."""
    return rng.choice(room, n, replace=False) if n <= room else rng.permutation(np.arange(n) % room)
