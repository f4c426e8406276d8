"""What the semantic ids are worth: uniqueness before and after the repair, use of each level, what is lost."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gr2.sid.spelling import spell
from gr2.types import Item, SemanticId

WORST = 10
"""Collision groups shown."""


def sid_report(
    *,
    items: Sequence[Item],
    vectors: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    codebooks: Sequence[np.ndarray],
) -> dict[str, Any]:
    """JSON-able. Row i of `vectors` (N, D), `before` and `after` (N, L) belongs to `items[i]`; shares are in 0..1."""
    return {
        "n_items": len(items),
        "codebook_sizes": [len(book) for book in codebooks],
        "unique_share_before": alone_share(before),
        "unique_share": alone_share(after),
        "moved_items": int((before != after).any(axis=1).sum()),
        "reconstruction_error_before": _errors(vectors, before, codebooks)[-1],
        "reconstruction_error": _errors(vectors, after, codebooks)[-1],
        "levels": _levels(items, vectors, before, after, codebooks),
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


def _levels(
    items: Sequence[Item], vectors: np.ndarray, before: np.ndarray, after: np.ndarray, codebooks: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """One entry a level, of the ids after the repair unless its name says `before`."""
    categories = [item.categories for item in items]
    shuffled = [categories[i] for i in np.random.default_rng(0).permutation(len(items))]
    errors = zip(_errors(vectors, before, codebooks), _errors(vectors, after, codebooks), strict=True)
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
        }
        for level, (book, (error_before, error)) in enumerate(zip(codebooks, errors, strict=True))
    ]


def _errors(vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> list[float]:
    """Per level: squared norm of what is left of the vectors after it, over their variance about the mean."""
    total = float(((vectors - vectors.mean(axis=0)) ** 2).sum())
    errors, left = [], vectors
    for level, book in enumerate(codebooks):
        left = left - book[codes[:, level]]
        errors.append(float((left**2).sum()) / total if total else 0.0)
    return errors


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
