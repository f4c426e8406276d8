"""Unique ids within 2 % of the error of ids that may collide, wherever free ids near enough exist (ours).

assign.py changes the last code alone while a prefix has room. Where vectors lie in tight clusters (TF-IDF of category
paths) that is dear: a free id with another second or third code is often nearer than the prefix's free last codes.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from gr2.sid.assign import reconstruct, squared_distances

WITHIN = 0.02
"""The error may grow by so much; as long as it has not, no item leaves its prefix."""
BEAM = 16
"""Nearest ids that are tried for an item. 64 find 2 % more items a nearer id, for 6 times the work."""
ROWS = 256
"""Items whose ids are looked for at once: 256 x 16 x 256 float64 distances are 8 MB."""


def nearer_ids(
    vectors: np.ndarray, wanted: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]
) -> np.ndarray:
    """`codes` (N, L), all distinct, of `vectors` (N, D), with an error at most `WITHIN` above that of `wanted` (N, L).

    Items that did not get their wanted id, those that lose most first, take the nearest free id below their first code
    until the error is so small; first codes never change. When the items run out it stays above. Of two levels the
    last is the optimum already: nothing is done. Ties go by row, as in `unique_codes`.
    """
    if len(codebooks) < 3:
        return codes
    codes, error, before = codes.copy(), _errors(vectors, codes, codebooks), _errors(vectors, wanted, codebooks)
    held = set(map(tuple, codes.tolist()))
    rows = np.flatnonzero((codes != wanted).any(axis=1))
    rows = rows[np.argsort((before - error)[rows], kind="stable")]
    excess = error.sum() - (1 + WITHIN) * before.sum()
    for row, near in _near(vectors, codes, rows, codebooks):
        if excess <= 0:
            break
        own = tuple(codes[row].tolist())
        for found, its_error in near:
            if its_error >= error[row]:
                break
            if found not in held:
                held -= {own}
                held |= {found}
                excess -= error[row] - its_error
                codes[row] = found
                break
    return codes


def _near(
    vectors: np.ndarray, codes: np.ndarray, rows: np.ndarray, codebooks: Sequence[np.ndarray]
) -> Iterator[tuple[int, list[tuple[tuple[int, ...], float]]]]:
    """Each of `rows` with its nearest ids and their squared errors, nearest first; found when asked for."""
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        ids, errors = beam_ids(vectors[part], codes[part, 0], codebooks)
        for row, its_ids, its_errors in zip(part.tolist(), ids.tolist(), errors.tolist(), strict=True):
            yield row, list(zip(map(tuple, its_ids), its_errors, strict=True))


def beam_ids(vectors: np.ndarray, first: np.ndarray, codebooks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Up to `BEAM` ids (m, B, L) and squared errors (m, B), nearest first, for `vectors` (m, D) below codes (m,)."""
    ids = first[:, None, None]
    left = (vectors - codebooks[0][first])[:, None]
    for book in codebooks[1:]:
        far = squared_distances(left.reshape(-1, left.shape[2]), book).reshape(len(left), -1)
        best = np.argsort(far, axis=1, kind="stable")[:, :BEAM]
        beam, code = best // len(book), best % len(book)
        left = np.take_along_axis(left, beam[:, :, None], axis=1) - book[code]
        ids = np.concatenate([np.take_along_axis(ids, beam[:, :, None], axis=1), code[:, :, None]], axis=2)
        errors = np.take_along_axis(far, best, axis=1)
    return ids, errors


def _errors(vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Squared distance (N,) of `vectors` (N, D) to the sums of `codes` (N, L)."""
    return ((vectors - reconstruct(codes, codebooks)).astype(np.float64) ** 2).sum(axis=1)
