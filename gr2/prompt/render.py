"""From a slate to the words a model reads and writes. Templates are checked files, known by their digest.

A prompt that ends in `<think>` is completed by `thought</think>answer<|end|>`. Candidates are listed with labels, and
from there on are named by them, one token each: a small model that writes ids repeats itself, or gives an id another's
label (docs/log.md). Thoughts cite the history by ids (P2 §3). What counts say (`advice.advisor`) stands behind the
list, as the labels in the order that it advises. After a prompt that ends in `<think></think>` nothing is written: the
candidates' ids are scored in one pass.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from gr2.prompt.gaps import gaps_told
from gr2.record import digest_bytes
from gr2.sid.spelling import defuse, spell
from gr2.types import Item, SemanticId, Slate

HISTORY, CANDIDATES, ADVICE = "<|history|>", "<|candidates|>", "<|advice|>"
THINK, END_THINK = "<think>", "</think>"
END, PAD = "<|end|>", "<|pad|>"
MAX_LABELS = 20
"""Longest slate that can be asked about."""
LABELS = tuple(f"<c_{number}>" for number in range(1, MAX_LABELS + 1))
CONTROL_TOKENS = (PAD, END, HISTORY, CANDIDATES, ADVICE, THINK, END_THINK, *LABELS)

_CITATION = re.compile(r"\[([hc])(\d+)\]")


@dataclass(frozen=True, kw_only=True)
class Template:
    """How one item and one prompt are written."""

    name: str
    item: str
    """Of the history. Fields: sid, title, categories, year, brand."""
    candidate: str
    """Of the candidates; field `label` beside those of an item."""
    prompt: str
    """Fields: history, candidates, advice."""

    @cached_property
    def digest(self) -> str:
        return digest_bytes(f"{self.item}\0{self.candidate}\0{self.prompt}".encode())


def load_template(name: str) -> Template:
    """The checked file `templates/<name>.txt`. Raises FileNotFoundError for a name that is no file."""
    text = (files("gr2.prompt") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
    head, item, candidate, prompt = re.split(r"^\[(?:item|candidate|prompt)\]\n", text, flags=re.MULTILINE)
    if head or not {"{history}", "{candidates}", "{advice}"} <= set(re.findall(r"{\w+}", prompt)):
        raise ValueError(
            f"template {name}: wants [item], [candidate] and a [prompt] of {{history}}, {{candidates}}, {{advice}}"
        )
    return Template(name=name, item=item.rstrip("\n"), candidate=candidate.rstrip("\n"), prompt=prompt.rstrip("\n"))


def advised(slate: Slate) -> list[int]:
    """The candidates, those first that the advice is most for, ties in incoming order; none without advice."""
    return sorted(range(len(slate.advice)), key=lambda c: -slate.advice[c])


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """Writes slates and thoughts about one catalogue."""

    template: Template
    items: Mapping[str, Item]
    ids: Mapping[str, SemanticId]
    markers: bool
    """Whether an id stands between begin and end tokens."""
    history: int
    """How many of the newest history items are shown."""
    short: Callable[[Sequence[str]], tuple[str, ...]] | None = None
    """Which of them are shown in their place; the context compressor."""
    advised: bool = True
    """Whether the order is shown that the slate's advice gives."""
    gaps: bool = False
    """Whether a token before every history item, and one behind them, says how long after the one before it came."""

    def sid(self, item_id: str) -> str:
        return spell(self.ids[item_id], markers=self.markers)

    def shown(self, slate: Slate) -> tuple[str, ...]:
        """The history items that the prompt shows, oldest first."""
        return self.short(slate.history) if self.short else slate.history[-self.history :]

    def times(self, slate: Slate) -> tuple[int, ...]:
        """Seconds of each event that the prompt shows, and of the slate; empty where they are not known."""
        return () if self.short else slate.newest(self.history).times

    def item(self, item_id: str, label: str = "") -> str:
        """A history item, or a candidate when it has a label."""
        item = self.items[item_id]
        return (self.template.candidate if label else self.template.item).format(
            label=label,
            sid=self.sid(item_id),
            title=defuse(item.title),
            categories=defuse(" > ".join(item.categories)),
            year=item.year or "",
            brand=defuse(item.brand or ""),
        )

    def prompt(self, slate: Slate, *, think: bool) -> str:
        """What the model reads; ends where its own words begin. Raises ValueError for over MAX_LABELS candidates."""
        if len(slate.candidates) > MAX_LABELS:
            raise ValueError(f"slate {slate.slate_id}: {len(slate.candidates)} candidates, at most {MAX_LABELS}")
        history = [self.item(i) for i in self.shown(slate)]
        if self.gaps:
            gaps = gaps_told(self.times(slate), len(history))
            history = [gap + item for gap, item in zip(gaps, [*history, ""], strict=True)]
        body = self.template.prompt.format(
            history="".join(history),
            candidates="".join(self.item(i, label) for i, label in zip(slate.candidates, LABELS, strict=False)),
            advice=self.answer(advised(slate)) if self.advised else "",
        )
        return body + THINK + ("" if think else END_THINK)

    def answer(self, order: Sequence[int]) -> str:
        """The labels of a ranking."""
        return "".join(LABELS[c] for c in order)

    def thought(self, slate: Slate, text: str) -> str:
        """A trace's thought with its citations spelled: `[h1]`, the newest history item, becomes its id, and `[c1]`,
        the first candidate, its label.

        Raises IndexError for a citation of what the prompt does not show.
        """
        shown = self.shown(slate)[::-1]

        def spelled(match: re.Match[str]) -> str:
            kind, number = match.group(1), int(match.group(2))
            if number == 0:
                raise IndexError(f"{match.group()}: citations count from 1")
            return self.sid(shown[number - 1]) if kind == "h" else LABELS[: len(slate.candidates)][number - 1]

        return _CITATION.sub(spelled, text)
