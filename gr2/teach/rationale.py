"""The evidence teacher's words: three steps on one line, in a small closed vocabulary, citing ids. (P1 §3; words ours)

    likes drama crime 1990s ; next thriller 1980s ; co-visits [h4] -> [c3]

Broad pattern of the recent history; what comes next; the candidate it leads to, with the history that speaks for it.
`[h1]` is the newest history item, `[c1]` the first candidate in incoming order. The first step is a function of the
history alone and the others follow the teacher's own choice, so that a student can foresee each from what it sees and
has said.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gr2.teach.evidence import KINDS, RECENT
from gr2.teach.series import series_of
from gr2.teach.teacher import Opinions
from gr2.types import Item

CITED = 1
"""History items cited at most. Of two, a small model writes the second again and again (docs/log.md)."""
NAMED = 1000
"""Genres at most that are tokens of their own."""
ARROW = "->"
"""What stands between the reasons and the candidate they lead to. A small model that has to name more repeats one
(docs/log.md)."""


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """The words for a catalogue's items. Shapes: N items, G genres (or other categories)."""

    genres: tuple[str, ...]
    has: np.ndarray
    """(N, G) bool."""
    usual: np.ndarray
    """(G,) share of the catalogue with the genre."""
    decades: tuple[str, ...]
    """One an item: "1990s", or "" when the year is unknown."""
    series: tuple[int, ...]
    brands: tuple[str, ...]
    """One an item; "" when unknown."""


@dataclass(frozen=True, kw_only=True)
class Rationale:
    """A thought and the kind of evidence it leans on."""

    text: str
    evidence: str


def lexicon(items: Sequence[Item]) -> Lexicon:
    """Read the catalogue's words: categories in lower case, without the marks that citations and ids are made of."""
    words = [{word for category in item.categories if (word := _word(category))} for item in items]
    genres = sorted(set().union(*words))
    has = np.array([[genre in own for genre in genres] for own in words], dtype=bool).reshape(len(items), len(genres))
    return Lexicon(
        genres=tuple(genres),
        has=has,
        usual=has.mean(0),
        decades=tuple(f"{item.year // 10}0s" if item.year else "" for item in items),
        series=tuple(series_of(items)),
        brands=tuple(item.brand or "" for item in items),
    )


def vocabulary(words: Lexicon) -> list[str]:
    """All that the teacher says but citations, as it stands in a thought, for a tokenizer that is to hold each as one
    token; of the genres the NAMED that most items have."""
    common = np.argsort(-words.usual, kind="stable")[:NAMED]
    decades = sorted({decade for decade in words.decades if decade})
    said = [*KINDS, *(words.genres[g] for g in sorted(common.tolist())), *decades]
    return ["likes", " next", " ;", f" {ARROW}", *(f" {word}" for word in said)]


def explain(
    words: Lexicon, opinions: Opinions, at: int, order: Sequence[int], lifts: np.ndarray, cited_history: int
) -> Rationale:
    """Why `order[0]` comes first in slate `at`.

    `lifts` (T,) is how far each kind of evidence lifted that candidate; no history event older than the
    `cited_history` newest is cited.
    """
    history = [int(row) for row in opinions.rows.history[at] if row >= 0]
    candidates = opinions.rows.candidates[at][list(order)]
    genre = telling_genre(words, candidates)
    pick = int(candidates[0])
    for kind in np.argsort(-lifts, kind="stable"):
        backing = _backing(words, KINDS[kind], history, pick, genre, opinions.links[at, order[0]])
        cited = [age for age in backing if age < cited_history][:CITED]
        if cited or KINDS[kind] in ("popular", "order"):
            break
    steps = [
        _line("likes", *taste(words, history[:RECENT])),
        _line("next", words.genres[genre] if genre is not None else "", words.decades[pick]),
        _line(KINDS[kind], *(f"[h{age + 1}]" for age in cited), choice(order)),
    ]
    return Rationale(text=" ; ".join(step for step in steps if " " in step), evidence=KINDS[kind])


def choice(order: Sequence[int]) -> str:
    """What a thought leads to: `-> [c3]`."""
    return f"{ARROW} [c{order[0] + 1}]"


def taste(words: Lexicon, recent: Sequence[int]) -> list[str]:
    """The one or two genres that the recent history has most above their usual share, and its commonest decade."""
    if not recent:
        return []
    share = words.has[list(recent)].mean(0)
    excess = share - words.usual
    liked = [words.genres[g] for g in np.argsort(-excess, kind="stable")[:2] if share[g] > 0 and excess[g] > 0]
    decades = Counter(words.decades[row] for row in recent if words.decades[row])
    return [*liked, *(decade for decade, _ in decades.most_common(1))]


def telling_genre(words: Lexicon, candidates: np.ndarray) -> int | None:
    """The genre of the first candidate that fewest others carry; among equals the rarest of the catalogue."""
    carried = words.has[candidates].sum(0)
    own = np.flatnonzero(words.has[candidates[0]])
    return min(own.tolist(), key=lambda g: (carried[g], words.usual[g], g)) if len(own) else None


def _backing(
    words: Lexicon, kind: str, history: Sequence[int], pick: int, genre: int | None, links: np.ndarray
) -> Iterable[int]:
    """Ages (0 = newest) of the history events that bear the evidence out, the best first."""
    if kind == "co-visits":
        return [int(age) for age in np.argsort(-links, kind="stable") if links[age] > 0]
    return [age for age, row in enumerate(history) if is_alike(words, kind, row, pick, genre)]


def is_alike(words: Lexicon, kind: str, event: int, pick: int, genre: int | None) -> bool:
    """Whether a history event and a candidate are of one kind, in the way of this evidence; `genre` is the one that
    tells the candidate from the others of its slate."""
    match kind:
        case "genre":
            return genre is not None and bool(words.has[event, genre])
        case "era":
            return words.decades[event] == words.decades[pick] != ""
        case "series":
            return words.series[event] == words.series[pick]
        case "brand":
            return words.brands[event] == words.brands[pick] != ""
    return False


def _word(category: str) -> str:
    """One word, so that two of them side by side stay two: "Hair Care" -> "hair-care"."""
    return "-".join(re.findall(r"[\w'-]+", category.lower())).strip("-")


def _line(*parts: str) -> str:
    return " ".join(part for part in parts if part)
