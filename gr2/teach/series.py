"""Which items belong to one series, read off their titles. (ours)

"Godfather, The" and "Godfather: Part II, The" share the stem `godfather`; "Batman Returns" begins with the whole
stem of "Batman" and is of its kind. A stem is the title before a colon, comma, bracket or dash, without article or
part number.
"""

import re
from collections.abc import Mapping, Sequence

from gr2.types import Item

_BREAK = re.compile(r"[:;,(\[/]| - ")
_PART = re.compile(r"part|vol|volume|episode|chapter|deux|\d+|[ivx]+")
_ARTICLES = {"the", "a", "an", "la", "le", "les", "el", "il"}


def stem(title: str) -> str:
    """The words that a sequel would share: "Aliens" -> "alien", "Evil Dead II" -> "evil dead"."""
    head = _BREAK.split(title.lower())[0]
    words = re.findall(r"[^\W_]+", head.replace("'", ""))
    while len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    while len(words) > 1 and _PART.fullmatch(words[-1]):
        words = words[:-1]
    if words and len(words[-1]) > 3:
        words[-1] = words[-1].removesuffix("s")
    return " ".join(words)


def series_of(items: Sequence[Item]) -> list[int]:
    """One series number an item; an item without relatives has a number of its own."""
    stems = [stem(item.title) for item in items]
    kinds: dict[str, set[str]] = {}
    for own, item in zip(stems, items, strict=True):
        kinds.setdefault(own, set()).update(item.categories)
    roots = [_root(own, item, kinds) or item.item_id for own, item in zip(stems, items, strict=True)]
    number = {root: i for i, root in enumerate(dict.fromkeys(roots))}
    return [number[root] for root in roots]


def _root(own: str, item: Item, kinds: Mapping[str, set[str]]) -> str:
    """The shortest stem that begins `own` word by word and shares half the categories, else `own`."""
    words = own.split()
    for n in range(1, len(words)):
        prefix = " ".join(words[:n])
        if len(prefix) > 2 and prefix in kinds and _alike(kinds[prefix], set(item.categories)):
            return prefix
    return own


def _alike(a: set[str], b: set[str]) -> bool:
    return 2 * len(a & b) >= len(a | b) > 0
