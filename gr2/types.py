"""The nouns of GR2 in memory: frozen, keyword-only, typed.

Item ids are the user's own strings everywhere, in memory and on disk. A candidate is named by its
position in `Slate.candidates` (0 = what the pre-ranker put first), so a ranking is a permutation of
`range(K)` and "keeping the incoming order" is `(0, 1, ..., K-1)`.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

DAY = 86_400
"""Seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing of the catalogue."""

    item_id: str
    title: str
    categories: tuple[str, ...] = ()
    """Genres, or a category path from general to special."""
    year: int | None = None
    brand: str | None = None

    @property
    def text(self) -> str:
        """What is embedded and shown: `title (year), brand: b, categories: a > b`."""
        year = f" ({self.year})" if self.year else ""
        brand = f", brand: {self.brand}" if self.brand else ""
        categories = f", categories: {' > '.join(self.categories)}" if self.categories else ""
        return f"{self.title}{year}{brand}{categories}"


class Split(StrEnum):
    """What an event may be used for."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """All events of one user, oldest first; the three tuples have one length."""

    user_id: str
    item_ids: tuple[str, ...]
    times: tuple[int, ...]
    """Seconds; any origin. Never decreasing."""
    splits: tuple[Split, ...]
    """Train events, then valid, then test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticId:
    """The codes of one item, from the general level to the special one."""

    codes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slate:
    """The unit of work: K candidates for one user at one moment, in incoming order."""

    slate_id: str
    """`user_id:position`, where position is that of the held-out event in the user's timeline; a logged slate's own."""
    user_id: str
    split: Split
    time: int
    """Cut-off, in seconds: when the held-out event was, or the slate was shown; `history` was before."""
    history: tuple[str, ...]
    """Item ids, oldest first."""
    history_times: tuple[int, ...] = ()
    """Seconds of each event of the history; empty where unknown."""
    candidates: tuple[str, ...]
    """Item ids in the order in which the pre-ranker gave them."""
    scores: tuple[float, ...]
    """The pre-ranker's scores, one a candidate; never increasing but where slates were logged."""
    gains: tuple[int, ...]
    """0 none, 1 click, 2 click and conversion; one a candidate."""
    votes: tuple[float, ...] = ()
    """What `retrieve.neighbours` say for each candidate; empty where they were not asked."""
    advice: tuple[float, ...] = ()
    """What `advice.advisor` says for each candidate, in nats; empty where it was not asked."""
    features: np.ndarray | None = field(default=None, compare=False, repr=False)
    """(K, F) float16, the features of `advice.features`, scaled, for a model that reads them; None where none does."""

    @property
    def target(self) -> int:
        """Position of the first candidate with the highest gain."""
        return self.gains.index(max(self.gains))

    def __post_init__(self) -> None:
        if self.history_times and len(self.history_times) != len(self.history):
            raise ValueError(
                f"slate {self.slate_id}: {len(self.history)} history events, {len(self.history_times)} times"
            )

    @property
    def times(self) -> tuple[int, ...]:
        """Seconds of each event of the history, and of the slate; empty where the history's are not known."""
        return (*self.history_times, self.time) if len(self.history_times) == len(self.history) else ()

    def newest(self, n: int) -> "Slate":
        """With the n newest events of its history."""
        return replace(self, history=self.history[-n:], history_times=self.history_times[-n:])

    def showing(self, history: tuple[str, ...]) -> "Slate":
        """With another history, of which no times are known."""
        return replace(self, history=history, history_times=())


class AnswerStatus(StrEnum):
    """What a parser made of a model's words. Only VALID is a ranking."""

    VALID = "valid"
    NO_THOUGHT_END = "no_thought_end"
    UNKNOWN_ITEM = "unknown_item"
    """A token or id that is no candidate of this slate."""
    DUPLICATE = "duplicate"
    PARTIAL = "partial"
    """Too few candidates, or cut off."""
    TRAILING = "trailing"
    """Words after a complete ranking."""
    NAN_SCORE = "nan_score"
    """A candidate's score is not a number, so there is no order."""
    UNANSWERED = "unanswered"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A parsed completion."""

    status: AnswerStatus
    order: tuple[int, ...]
    """Candidate positions, best first; a permutation of range(K) if VALID, else what could be read."""
    thought: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """A teacher's reasoning about one slate."""

    slate_id: str
    thought: str
    """Plain text; items are cited as `[h3]` (third-newest of the history shown) and `[c1]` (candidate position 0)."""
    order: tuple[int, ...]
    evidence: str
    """Which evidence the teacher weighed most."""
    attempt: int
    kept: bool
    reason: str
    """Why it was kept or refused."""
    prompt: str = ""
    """Digest of the template that a language model was asked with; "" from a teacher that is a program."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """A reward and its parts."""

    total: float
    rank: float
    format: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """What a ranker says of one slate."""

    slate_id: str
    order: tuple[int, ...]
    """Candidate positions, best first: always a permutation of range(K)."""
    status: AnswerStatus = AnswerStatus.VALID
    """Of the answer before any fallback; when it is not VALID, `order` is the incoming order."""
    thought: str = ""
    tied: int = 0
    """Candidates whose score another one has too: among them the incoming order decided."""
