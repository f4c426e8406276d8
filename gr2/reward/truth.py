"""How much of a thought is true: each step is a claim that the log and the catalogue decide. (ours)

    likes drama crime 1990s ; next thriller 1980s ; co-visits <id> -> <c_3>

What is said is compared with what could be said, so that neither silence nor naming every genre pays:

    truth of a step     = true words said / max(words said, words that could be said)
    truth of a thought  = sum over its steps / max(steps said, steps that could be said)

- `likes`: the true words are the teacher's, which the newest history events decide.
- `next`: the true words are genres and decade of the candidate that the thought leads to, of which it can say one each.
- the reason: 1 if it cites one event that the prompt shows and that tells the candidate from the others of the slate in
  the way that is named, else 0: `co-visits` connect it with the candidate more than with the slate's mean one, `genre`
  is the one that fewest others carry. So 0 for `popular` and `order`, which cite nothing. (Paid half, where the
  candidate stood in the upper half of the slate by them, they were all that was said after 80 steps: docs/log.md.)

Only the closed vocabulary of `teach.rationale` can be checked so, not the prose of a language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gr2.artifacts import Corpus
from gr2.prompt.render import LABELS, Renderer
from gr2.teach.evidence import HISTORY, KINDS, RECENT, Evidence, count, find
from gr2.teach.rationale import ARROW, Lexicon, is_alike, lexicon, taste, telling_genre
from gr2.teach.rows import as_rows
from gr2.types import Slate

BREAK = ";"
"""Between two steps."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Shares from 0 to 1."""

    steps: tuple[float, ...]
    """Of each step that was said."""
    likes: float
    next: float
    reason: float
    total: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What there is to be known of one slate. Shapes: K candidates, H history events."""

    past: list[int]
    """Catalogue rows of the history, newest first."""
    candidates: list[int]
    """Catalogue rows of the candidates, as the prompt showed them."""
    links: np.ndarray
    """(K, H) by how many others co-visits connect them."""
    shown: dict[str, int]
    """Id as it is spelled -> catalogue row, of the history that the prompt shows."""


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Knows the training events and the catalogue."""

    corpus: Corpus
    words: Lexicon
    evidence: Evidence
    renderer: Renderer

    @classmethod
    def of(cls, corpus: Corpus, renderer: Renderer) -> "Witness":
        """Count the training events."""
        return cls(corpus=corpus, words=lexicon(corpus.items), evidence=count(corpus), renderer=renderer)

    def check(self, slates: Sequence[Slate], thoughts: Sequence[str]) -> list[Truth]:
        """The truth of a thought about each slate, whose candidates are as the prompt showed them; a slate may stand
        there many times, as in a group of rollouts."""
        distinct = list(dict.fromkeys(slates))
        rows = as_rows(distinct, self.corpus.row, self.evidence.visits.user_row, HISTORY)
        links = find(self.evidence, rows, label=None).links
        facts = {slate: self._facts(slate, rows.history[at], links[at]) for at, slate in enumerate(distinct)}
        return [self._check(thought, facts[slate]) for slate, thought in zip(slates, thoughts, strict=True)]

    def check_cited(self, slates: Sequence[Slate], thoughts: Sequence[str]) -> list[Truth]:
        """The same of thoughts that cite as traces and rankings do: `[h1]`, `[c1]`."""
        return self.check(slates, [self._spelled(s, t) for s, t in zip(slates, thoughts, strict=True)])

    def _spelled(self, slate: Slate, thought: str) -> str:
        try:
            return self.renderer.thought(slate, thought)
        except IndexError:  # a model may write `[h99]`, which then leads nowhere
            return thought

    def _facts(self, slate: Slate, history: np.ndarray, links: np.ndarray) -> Facts:
        row = self.corpus.row
        return Facts(
            past=[int(event) for event in history if event >= 0],
            candidates=[row[item] for item in slate.candidates],
            links=links,
            shown={self.renderer.sid(item): row[item] for item in self.renderer.shown(slate)},
        )

    def _check(self, thought: str, facts: Facts) -> Truth:
        claims, pick = _read(thought, len(facts.candidates))
        said = [claim.split() for claim in claims.split(BREAK) if claim.strip()]
        liked = taste(self.words, facts.past[:RECENT])
        coming, n_coming = ([], 1) if pick is None else self._words_of(facts.candidates[pick])
        values: dict[str, float] = {}
        steps = []
        for at, (head, *words) in enumerate(said):
            if head == "likes" and head not in values:
                values[head] = _share(words, liked, len(liked))
            elif head == "next" and head not in values:
                values[head] = _share(words, coming, n_coming)
            elif head in KINDS and at == len(said) - 1 and pick is not None:
                head, values["reason"] = "reason", float(self._is_borne_out(head, words, pick, facts))
            else:
                head = ""
            steps.append(values.get(head, 0.0))
        sayable = bool(liked) + bool(n_coming) + 1
        return Truth(
            steps=tuple(steps),
            likes=values.get("likes", float(not liked)),
            next=values.get("next", float(not n_coming)),
            reason=values.get("reason", 0.0),
            total=sum(steps) / max(sayable, len(said)),
        )

    def _words_of(self, row: int) -> tuple[list[str], int]:
        """An item's genres and decade, and how many of these one step can say."""
        genres = [self.words.genres[g] for g in np.flatnonzero(self.words.has[row])]
        decade = [self.words.decades[row]] if self.words.decades[row] else []
        return [*genres, *decade], bool(genres) + bool(decade)

    def _is_borne_out(self, kind: str, cited: Sequence[str], pick: int, facts: Facts) -> bool:
        """Whether the one event that is cited speaks so for the candidate `pick`."""
        if len(cited) != 1 or cited[0] not in facts.shown:
            return False
        event = facts.shown[cited[0]]
        if kind == "co-visits":
            links = [facts.links[:, age] for age, past in enumerate(facts.past) if past == event]
            return any(of_each[pick] > of_each[: len(facts.candidates)].mean() for of_each in links)
        others = [c for at, c in enumerate(facts.candidates) if at != pick]
        genre = telling_genre(self.words, np.array([facts.candidates[pick], *others]))
        return is_alike(self.words, kind, event, facts.candidates[pick], genre)


def _read(thought: str, k: int) -> tuple[str, int | None]:
    """What stands before the last arrow, and the candidate behind it; None where there is none of the slate's."""
    claims, arrow, label = thought.rpartition(ARROW)
    if not arrow:
        return thought, None
    return claims, LABELS.index(label.strip()) if label.strip() in LABELS[:k] else None


def _share(said: Sequence[str], true: Sequence[str], sayable: int) -> float:
    """Different true words, at most `sayable`, of the words that were said or could be."""
    return min(len(set(said) & set(true)), sayable) / max(len(said), sayable, 1)
