"""What the semantic ids are worth: uniqueness before and after the repair, use of each level, what is lost."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from gr2.sid.spelling import spell
from gr2.types import Item, SemanticId

WORST = 10
"""Collision groups shown."""
NEIGHBOURS = 5
"""Nearest items of an item that are asked for a common prefix."""
ASKED = 2000
"""Items asked for their neighbours; all of them where the catalogue has no more."""
Decode = Callable[[np.ndarray], np.ndarray]


def sid_report(
    *,
    items: Sequence[Item],
    vectors: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    codebooks: Sequence[np.ndarray],
    decode: Decode = lambda sums: sums,
) -> dict[str, Any]:
    """JSON-able. Row i of `vectors` (N, D), `before` and `after` (N, L) belongs to `items[i]`; shares are in 0..1.

    `decode` takes (N, P) sums of codes to (N, D) vectors (`Quantized.decode`).
    """
    return {
        "n_items": len(items),
        "codebook_sizes": [len(book) for book in codebooks],
        "unique_share_before": alone_share(before),
        "unique_share": alone_share(after),
        "moved_items": int((before != after).any(axis=1).sum()),
        "reconstruction_error_before": reconstruction_errors(vectors, before, codebooks, decode)[-1],
        "reconstruction_error": reconstruction_errors(vectors, after, codebooks, decode)[-1],
        "levels": _levels(items, vectors, before, after, codebooks, decode),
        "collision_group_sizes": _group_sizes(before),
        "largest_collisions": _collisions(items, before),
    }


def alone_share(codes: np.ndarray) -> float:
    """Share of rows (N, L) that no other row equals."""
    _, group, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    return float((count[group] == 1).mean())


def perplexity(codes: np.ndarray, size: int) -> float:
    """exp of the entropy of the codes' use (N,): `size` when all are used alike, 1 when only one is."""
    p = np.bincount(codes, minlength=size) / len(codes)
    return float(np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()))


def purity(categories: Sequence[Sequence[str]], codes: np.ndarray) -> float | None:
    """Share of items with the commonest category of their group, over groups (equal rows of codes) of two or more.

    A category that over half of the items carry says nothing and is left out. None when no such group exists.
    """
    held = Counter(c for cs in categories for c in set(cs))
    telling = [{c for c in cs if held[c] <= len(categories) / 2} for cs in categories]
    groups: dict[tuple[int, ...], list[set[str]]] = {}
    for row, cs in zip(codes.tolist(), telling, strict=True):
        groups.setdefault(tuple(row), []).append(cs)
    shared = [g for g in groups.values() if len(g) > 1]
    commonest = [max(Counter(c for cs in g for c in cs).values(), default=0) for g in shared]
    return sum(commonest) / sum(map(len, shared)) if shared else None


def reconstruction_errors(
    vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray], decode: Decode = lambda sums: sums
) -> list[float]:
    """Per level: squared norm of what is left of the vectors (N, D) after it, over their variance about the mean."""
    total = float(((vectors - vectors.mean(axis=0)) ** 2).sum())
    errors, sums = [], np.zeros((len(codes), codebooks[0].shape[1]), dtype=np.float32)
    for level, book in enumerate(codebooks):
        sums = sums + book[codes[:, level]]
        errors.append(float(((vectors - decode(sums)) ** 2).sum()) / total if total else 0.0)
    return errors


def neighbours(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(A,) rows of at most 2,000 items drawn at random, and the (A, up to 5) rows of those nearest to each of them."""
    asked = np.sort(np.random.default_rng(0).permutation(len(vectors))[:ASKED])
    k = min(NEIGHBOURS, len(vectors) - 1)
    # One more is asked for, and the item itself struck out: among equal vectors it need not come first.
    found = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(vectors).kneighbors(vectors[asked])[1]
    itself_last = np.argsort(found == asked[:, None], axis=1, kind="stable")
    return asked, np.take_along_axis(found, itself_last, axis=1)[:, :k]


def sharing(codes: np.ndarray, asked: np.ndarray, near: np.ndarray) -> float | None:
    """Share of (item, nearest item) with equal rows of `codes` (N, l); None for a catalogue of one item."""
    return float((codes[near] == codes[asked][:, None]).all(axis=2).mean()) if near.size else None


def sharing_by_chance(codes: np.ndarray) -> float | None:
    """Share of all pairs of two items with equal rows of `codes` (N, l); None for a catalogue of one item."""
    count = np.unique(codes, axis=0, return_counts=True)[1].astype(float)
    n = count.sum()
    return float((count * (count - 1)).sum() / (n * (n - 1))) if n > 1 else None


def _levels(
    items: Sequence[Item],
    vectors: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    codebooks: Sequence[np.ndarray],
    decode: Decode,
) -> list[dict[str, Any]]:
    """One entry a level, of the ids after the repair unless its name says `before`."""
    categories = [item.categories for item in items]
    shuffled = [categories[i] for i in np.random.default_rng(0).permutation(len(items))]
    errors = zip(*(reconstruction_errors(vectors, codes, codebooks, decode) for codes in (before, after)), strict=True)
    asked, near = neighbours(vectors)
    return [
        {
            "size": len(book),
            "usage": len(np.unique(after[:, level])) / len(book),
            "perplexity": perplexity(after[:, level], len(book)),
            "distinct_prefixes": len(np.unique(after[:, : level + 1], axis=0)),
            "unique_prefix_share_before": alone_share(before[:, : level + 1]),
            "unique_prefix_share": alone_share(after[:, : level + 1]),
            "reconstruction_error_before": error_before,
            "reconstruction_error": error,
            "category_purity": purity(categories, after[:, : level + 1]),
            "category_purity_by_chance": purity(shuffled, after[:, : level + 1]),
            "neighbours_sharing": sharing(after[:, : level + 1], asked, near),
            "neighbours_sharing_by_chance": sharing_by_chance(after[:, : level + 1]),
        }
        for level, (book, (error_before, error)) in enumerate(zip(codebooks, errors, strict=True))
    ]


def _group_sizes(before: np.ndarray) -> dict[str, int]:
    """How many ids are held by 2, by 3, ... items, smallest first."""
    count = np.unique(before, axis=0, return_counts=True)[1]
    return {str(size): int((count == size).sum()) for size in np.unique(count[count > 1]).tolist()}


def _collisions(items: Sequence[Item], before: np.ndarray) -> list[dict[str, Any]]:
    groups: dict[tuple[int, ...], list[str]] = {}
    for item, row in zip(items, before.tolist(), strict=True):
        groups.setdefault(tuple(row), []).append(item.title)
    worst = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[:WORST]
    return [
        {"id": spell(SemanticId(codes=codes), markers=False), "n": len(titles), "titles": titles[:WORST]}
        for codes, titles in worst
        if len(titles) > 1
    ]
