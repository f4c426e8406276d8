"""Mid-training data: the alignment tasks that teach a language model what the id tokens mean (P1 §2.4, OneRec-Think).

Row by row one task is drawn. A row is a list of tokens and a mask that says where the loss counts.
- preference: windows of users' histories, every id predicted from those before it.
- slate (ours): such a window that ends in a list of candidates, advice and the answer, in the words of the re-ranking
  prompt; one candidate is the true next item, the others are made up, and so is the advice, which is better in some
  rows than in others. It teaches a model without induction heads to bind: to copy from a list, and only from the list.
- caption: id -> text and text -> id.
- persona: a user's history with ids and text interleaved.
- language: sentences about the catalogue without ids.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gr2.artifacts import Corpus
from gr2.corpus.ties import redrawn, training_ties
from gr2.lm.vocabulary import IdTokens
from gr2.prompt.gaps import BLIND, GAPS, UNKNOWN, Window, events_with_gaps
from gr2.prompt.render import ADVICE, CANDIDATES, END, END_THINK, HISTORY, LABELS, THINK
from gr2.sid.spelling import defuse
from gr2.types import Item

UNADVISED = 0.1
"""Share of made-up slates without advice."""
KNOWN = (0.5, 4.0)
"""How far made-up advice lifts the candidate to be taken above the others, in their standard deviations; drawn evenly
between these for each row: from little better than chance to nearly always right."""


class Mix(BaseModel):
    """Share of the rows that each task gets; they sum to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    preference: float = Field(default=0.45, ge=0)
    """Sequential preference (OneRec-Think: .657 of the mix, here with `slate`)."""
    slate: float = Field(default=0.40, ge=0)
    """Preference that ends in a made-up slate (ours)."""
    caption: float = Field(default=0.07, ge=0)
    """Dense captioning, both ways (OneRec-Think: .049)."""
    persona: float = Field(default=0.05, ge=0)
    """Interleaved history (OneRec-Think: .243; less here, because text is long and the model small)."""
    language: float = Field(default=0.03, ge=0)
    """Plain sentences (OneRec-Think: .050)."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        total = sum(self.model_dump().values())
        if not np.isclose(total, 1):
            raise ValueError(f"the shares sum to {total:.3f}, not 1")
        return self


@dataclass(frozen=True, kw_only=True)
class Row:
    """One training sequence."""

    tokens: list[int]
    counts: list[bool]
    """Where the loss counts; same length as `tokens`."""
    begins: dict[int, int] = field(default_factory=dict)
    """Place of a token -> the item whose id begins there, in a history of ids alone."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Token numbers of what stands around ids."""

    history: int
    candidates: int
    advice: int
    think: int
    end_think: int
    end: int
    labels: Sequence[int]

    @classmethod
    def of(cls, number: Callable[[str], int]) -> "Marks":
        """`number`: control token -> its number."""
        return cls(
            history=number(HISTORY),
            candidates=number(CANDIDATES),
            advice=number(ADVICE),
            think=number(THINK),
            end_think=number(END_THINK),
            end=number(END),
            labels=[number(label) for label in LABELS],
        )


def candidate_list(marks: Marks, spelled: Sequence[Sequence[int]]) -> list[int]:
    """The candidates as the prompt lists them: each id, then its label."""
    pairs = zip(spelled, marks.labels, strict=False)
    return [marks.candidates, *(token for sid, label in pairs for token in (*sid, label))]


def spoken_answer(marks: Marks, order: Sequence[int]) -> list[int]:
    """The label of the first of `order`, as a thought leads to it, and then the labels of all."""
    labels = [marks.labels[c] for c in order]
    return [labels[0], marks.end_think, *labels, marks.end]


def sentence(item: Item) -> str:
    """Plain language about one item."""
    year = f" of {item.year}" if item.year else ""
    kinds = f": {', '.join(item.categories).lower()}" if item.categories else ""
    brand = f" by {item.brand}" if item.brand else ""
    return defuse(f"{item.title}{brand} is an item{year}{kinds}.")


class AlignmentTasks:
    """Draws rows; `row(rng)` is a pure function of the generator's state."""

    def __init__(
        self, corpus: Corpus, ids: IdTokens, tokenizer: Any, mix: Mix, *, history: int, k: int, gaps: bool = False
    ) -> None:
        """Only training events of `corpus` are read. `history` in items, `k` candidates a made-up slate; with `gaps` a
        token before every event says how long after the one before it came."""
        self.history, self.k = history, k
        self.gaps: list[int] = tokenizer.convert_tokens_to_ids(list(GAPS)) if gaps else []
        self.tasks = [self.preference, self.slate, self.caption, self.persona, self.language]
        self.weights = np.array([mix.preference, mix.slate, mix.caption, mix.persona, mix.language])
        self.spelled = ids.spelled.tolist()
        rows = [events_with_gaps(t, ids.row) for t in corpus.timelines]
        told = [(r, ties) for r, ties in zip(rows, training_ties(corpus.timelines), strict=True) if len(r) > 1]
        self.sequences = [np.array(r) for r, _ in told]
        self.ties = [ties for _, ties in told]
        lengths = np.array([len(s) for s in self.sequences])
        # A user is drawn as often as it has windows, so that events, not users, count alike.
        self.user_weights = np.maximum(1, lengths / history) / np.maximum(1, lengths / history).sum()
        counts = np.bincount(np.concatenate(self.sequences)[:, 0], minlength=len(self.spelled))
        self.popularity = (counts + 1) ** 0.75 / ((counts + 1) ** 0.75).sum()
        items = {item.item_id: item for item in corpus.items}
        in_order = [items[i] for i in ids.item_ids]
        self.texts = _encode(tokenizer, [" " + defuse(i.text) for i in in_order])
        self.sentences = _encode(tokenizer, [sentence(i) for i in in_order])
        self.marks = Marks.of(tokenizer.convert_tokens_to_ids)
        self.length = 1 + history * (len(self.spelled[0]) + bool(gaps))

    def row(self, rng: np.random.Generator) -> Row:
        return self.tasks[rng.choice(len(self.tasks), p=self.weights)](rng)

    def preference(self, rng: np.random.Generator) -> Row:
        """Windows of users with short histories stand one behind another, so that hardly any of a batch is padding."""
        row = Row(tokens=[], counts=[])
        room = self.history
        while room:
            told = self._history(self._window(rng, self.history)[:room], rng)
            row.tokens.extend(told.tokens)
            row.counts.extend(told.counts)
            room -= len(told.begins)
        return row

    def histories(self, rng: np.random.Generator, events: int) -> list[list[Row]]:
        """All training events once, in batches of about so many, at least as many as a window; as many batches each
        time. The windows of a batch are of like length, so that hardly any of it is padding, and none sees another."""
        windows = []
        for user in range(len(self.sequences)):
            sequence = self._read(user, rng)
            first = int(rng.integers(1, self.history + 1)) if len(sequence) > self.history else len(sequence)
            windows += [part.tolist() for part in np.split(sequence, range(first, len(sequence), self.history))]
        windows = sorted([windows[i] for i in rng.permutation(len(windows))], key=len)
        ends = np.cumsum([len(w) for w in windows])
        n_batches = max(1, ends[-1] // events)
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, n_batches) / n_batches, side="right")
        bounds = [0, *cuts.tolist(), len(windows)]
        return [[self._history(w, rng) for w in windows[bounds[b] : bounds[b + 1]]] for b in rng.permutation(n_batches)]

    def _history(self, window: Window, rng: np.random.Generator) -> Row:
        return self._told([item for item, _ in window], self._gaps(window, rng))

    def _told(self, items: Sequence[int], gaps: Sequence[Sequence[int]]) -> Row:
        """A history as prompts begin, each item behind its gap."""
        row = Row(tokens=[self.marks.history], counts=[False])
        for item, gap in zip(items, gaps, strict=True):
            row.tokens.extend([*gap, *self.spelled[item]])
            row.counts.extend([False] * len(gap) + [True] * len(self.spelled[item]))
            row.begins[len(row.tokens) - len(self.spelled[item])] = item
        return row

    def _gaps(self, window: Window, rng: np.random.Generator) -> list[list[int]]:
        """What stands before each event: one token, or none. A window's first gap is unknown, since what was before it
        is not shown, and of every tenth window all are, so that a history without times can be read too."""
        if not self.gaps:
            return [[] for _ in window]
        blind = rng.random() < BLIND
        return [[self.gaps[UNKNOWN if blind or not at else gap]] for at, (_, gap) in enumerate(window)]

    def slate(self, rng: np.random.Generator) -> Row:
        window = self._window(rng, self.history + 1)
        *history, target = (item for item, _ in window)
        listed = rng.permutation([target, *self._others(rng, {*history, target})]).tolist()
        spelled = [self.spelled[i] for i in listed]
        *gaps, now = self._gaps(window, rng)
        past = self._told(history, gaps)
        first = listed.index(target)
        advised = self._advised(rng, len(listed), first)
        advice = [self.marks.advice, *(self.marks.labels[c] for c in advised)]
        asked = [*now, *candidate_list(self.marks, spelled), *advice, self.marks.think]
        if rng.random() < 0.5:  # the id at once, as the one-pass ranker reads it
            asked.append(self.marks.end_think)
            answer = self.spelled[target]
        else:
            behind = [c for c in advised or range(len(listed)) if c != first]
            answer = spoken_answer(self.marks, [first, *behind])
        return Row(
            tokens=[*past.tokens, *asked, *answer],
            counts=[*past.counts, *[False] * len(asked), *[True] * len(answer)],
        )

    def _advised(self, rng: np.random.Generator, k: int, first: int) -> list[int]:
        """Positions of the candidates as made-up advice has them, which knows of the one to be taken what the row's
        advisor knows; none in some rows, so that a slate without advice can be read too."""
        if rng.random() < UNADVISED:
            return []
        said_K = rng.normal(size=k)
        said_K[first] += rng.uniform(*KNOWN)
        return np.argsort(-said_K).tolist()

    def caption(self, rng: np.random.Generator) -> Row:
        def piece(i: int) -> list[int]:
            sid, text = self.spelled[i], self.texts[i]
            return [*sid, *text, self.marks.end] if rng.random() < 0.5 else [*text, *sid, self.marks.end]

        return self._filled(map(piece, rng.permutation(len(self.spelled)).tolist()))

    def persona(self, rng: np.random.Generator) -> Row:
        tokens = [self.marks.history]
        for i, _ in self._window(rng, self.history):
            tokens += [*self.spelled[i], *self.texts[i]]
        return _all_count(tokens[: self.length])

    def language(self, rng: np.random.Generator) -> Row:
        order = rng.permutation(len(self.sentences)).tolist()
        return self._filled([*self.sentences[i], self.marks.end] for i in order)

    def _filled(self, pieces: Iterable[list[int]]) -> Row:
        """As many pieces as fill a row; the last one is cut off."""
        tokens: list[int] = []
        for piece in pieces:
            tokens += piece
            if len(tokens) >= self.length:
                break
        return _all_count(tokens[: self.length])

    def _others(self, rng: np.random.Generator, seen: set[int]) -> list[int]:
        """k - 1 distinct items outside `seen`, popular ones more often; fewer only where the catalogue has no more."""
        wanted = min(self.k - 1, len(self.spelled) - len(seen))
        others: dict[int, None] = {}
        while len(others) < wanted:
            draws = rng.choice(len(self.spelled), size=4 * self.k, p=self.popularity)
            others |= dict.fromkeys(i for i in draws.tolist() if i not in seen)
        return list(others)[:wanted]

    def _read(self, user: int, rng: np.random.Generator) -> np.ndarray:
        """Items and gaps of a user's events, those of one time in another order each time."""
        sequence = self.sequences[user]
        return np.column_stack([redrawn(sequence[:, 0].tolist(), self.ties[user], rng), sequence[:, 1]])

    def _window(self, rng: np.random.Generator, size: int) -> Window:
        sequence = self._read(rng.choice(len(self.sequences), p=self.user_weights), rng)
        first = rng.integers(0, max(1, len(sequence) - size + 1))
        return sequence[first : first + size].tolist()


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False)["input_ids"]


def _all_count(tokens: list[int]) -> Row:
    return Row(tokens=tokens, counts=[True] * len(tokens))
