"""A thought as a person reads it: citations and spelled ids told apart from words, so that titles can replace them."""

import re
from collections.abc import Iterable, Mapping

from gr2.prompt.render import LABELS
from gr2.sid.spelling import BEGIN, END, spell
from gr2.types import Item, SemanticId, Slate

Segment = tuple[str, str | None]
"""Words and None, or what stood there and the item it names."""


def segments(thought: str, slate: Slate, ids: Mapping[str, SemanticId]) -> list[Segment]:
    """Cut `thought` at each `[h1]` (newest history item), `[c1]` (first candidate) and spelled id of the slate's items.

    A citation of nothing and an id of no item of the slate stay as they are. Spaces and commas are put in so that
    titles can replace what names them.
    """
    cited = {f"[h{i}]": item for i, item in enumerate(reversed(slate.history), 1)}
    cited |= {f"[c{i}]": item for i, item in enumerate(slate.candidates, 1)}
    spelled = {i: spell(ids[i], markers=False) for i in (*slate.history, *slate.candidates) if i in ids}
    cited |= {spelling: i for i, spelling in spelled.items()}
    words = " ".join(thought.replace(BEGIN, "").replace(END, "").split())
    for label, item in zip(LABELS, slate.candidates, strict=False):
        words = words.replace(spelled.get(item, "") + label, spelled.get(item, label))  # the id says it all
    for number, label in enumerate(LABELS, 1):
        words = words.replace(label, f"({number}) ")  # a label beside another item's id: both are shown
    pieces = re.split(f"({'|'.join(map(re.escape, cited))})", words)
    return _spaced((piece, cited.get(piece)) for piece in pieces if piece.strip())


def readable(thought: str, slate: Slate, items: Mapping[str, Item], ids: Mapping[str, SemanticId]) -> str:
    """The thought on one line with titles in quotes: `likes “Alien”, so “Aliens”`."""
    return "".join(f"“{items[item].title}”" if item else text for text, item in segments(thought, slate, ids))


def _spaced(parts: Iterable[Segment]) -> list[Segment]:
    """A comma between neighbouring titles, and a space where a word touches a title."""
    spaced: list[Segment] = []
    for text, item in parts:
        before, named = spaced[-1] if spaced else ("", None)
        if item and named:
            spaced.append((", ", None))
        elif (item and before[-1:].isalnum()) or (named and text[:1].isalnum()):
            spaced.append((" ", None))
        spaced.append((text, item))
    return spaced
