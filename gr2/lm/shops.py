"""Rows about made-up shops, every one with another catalogue and another taste (ours).

Nothing about a shop can be remembered, so what is learned from them is skill: to find an item in a list by its codes
and copy its label, to prefer what is like the history, to name every candidate once. A pretrained LLM brings that
along; a small model from scratch needs tens of thousands of rows for it, more than a user's run can
afford.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gr2.lm.alignment import Marks, Row, candidate_list

Codes = tuple[int, ...]
NAMED = 3
"""Candidates named in the thought of a choice."""


@dataclass(frozen=True, kw_only=True)
class Shops:
    """Draws rows; `row(rng)` is a pure function of the generator's state."""

    marks: Marks
    codes: np.ndarray
    """(levels, codebook size) token numbers of the id tokens."""
    words: np.ndarray
    """Token numbers that stand for the words of a thought."""
    k: int = 10
    """Candidates of most slates; every fourth has 4 to 12."""

    def row(self, rng: np.random.Generator) -> Row:
        """A look-up (candidates named in any order, each with its label), or a choice by taste, spoken or at once."""
        levels = int(rng.choice([2, 3, 4], p=[0.6, 0.25, 0.15]))
        size = int(rng.integers(12, self.codes.shape[1] + 1))
        k = int(rng.choice([self.k, self.k, self.k, int(rng.integers(4, 13))]))
        kind = rng.choice(["look-up", "choice", "at once"], p=[0.6, 0.25, 0.15])
        seen = int(rng.integers(0, 31 if levels == 2 else 16))
        liked = rng.choice(size, size=int(rng.integers(1, 5)), replace=False)
        history = [_item(rng, levels, size, liked, 0.75) for _ in range(seen)]
        slate: dict[Codes, None] = {}
        while len(slate) < k:
            slate[_item(rng, levels, size, liked, 0.35)] = None
        order = (rng.permutation(k) if kind == "look-up" else by_taste(history, list(slate))).tolist()
        return self._row(rng, history, [self._spell(item) for item in slate], order, kind)

    def _row(
        self, rng: np.random.Generator, history: Sequence[Codes], spelled: list[list[int]], order: list[int], kind: str
    ) -> Row:
        marks = self.marks
        past = [token for item in history for token in self._spell(item)]
        read = [marks.history, *past, *candidate_list(marks, spelled), marks.think]
        if kind == "at once":
            said = [(token, True) for token in spelled[order[0]]]
            read.append(marks.end_think)
        else:
            said = self._spoken(rng, spelled, order, kind == "look-up")
        return Row(
            tokens=read + [token for token, _ in said], counts=[False] * len(read) + [counts for _, counts in said]
        )

    def _spoken(
        self, rng: np.random.Generator, spelled: list[list[int]], order: list[int], look_up: bool
    ) -> list[tuple[int, bool]]:
        """Words, candidates by id and label, and then all labels: those named, and the rest as listed; what counts."""
        marks, k = self.marks, len(order)
        said = self._words(rng, int(rng.integers(0, 9)))
        named = k if look_up else NAMED
        if look_up and rng.random() < 0.3:
            named = int(rng.integers(1, k + 1))
        for c in order[:named]:
            # Which item a look-up names next is chance, and learning its first code would only be noise.
            first, *others = spelled[c]
            said += [(first, not look_up), *((token, True) for token in (*others, marks.labels[c]))]
            if not look_up and rng.random() < 0.2:
                said += self._words(rng, int(rng.integers(0, 3)))
        answer = [marks.labels[c] for c in (*order[:named], *sorted(order[named:]))]
        return said + [(token, True) for token in (marks.end_think, *answer, marks.end)]

    def _words(self, rng: np.random.Generator, n: int) -> list[tuple[int, bool]]:
        return [(int(self.words[at]), False) for at in rng.integers(0, len(self.words), n)]

    def _spell(self, item: Codes) -> list[int]:
        return self.codes[np.arange(len(item)), list(item)].tolist()


def by_taste(history: Sequence[Codes], slate: Sequence[Codes]) -> np.ndarray:
    """Candidates by what the history shares with them: .9 to the age of every item with the same first code, half as
    much again if the second is the same too. Ties in incoming order."""
    affinity = [
        sum(0.9**age * (h[0] == c[0]) * (1 + 0.5 * (h[1] == c[1])) for age, h in enumerate(reversed(history)))
        for c in slate
    ]
    return np.argsort(-np.array(affinity), kind="stable")


def _item(rng: np.random.Generator, levels: int, size: int, liked: np.ndarray, share: float) -> Codes:
    """Random codes; `share` of the items are of a liked kind."""
    first = rng.choice(liked) if rng.random() < share else rng.integers(size)
    return (int(first), *rng.integers(0, size, levels - 1).tolist())
