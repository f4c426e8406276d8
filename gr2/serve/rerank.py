"""One re-rank request: what of it is ranked, what the model says, and an answer that loses no document. (ours)

The first K distinct documents of the catalogue are ranked; all others follow in incoming order. Where the model
answers badly or not at all, everything stays in incoming order, and `status` says so.
"""

import logging
import time
import uuid
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from gr2.corpus.generic import TOO_LATE
from gr2.letters import whole_letters
from gr2.prompt.readable import readable
from gr2.types import AnswerStatus, Ranking, Slate, Split

if TYPE_CHECKING:
    from gr2.serve.ranker import Bundle  # which brings torch; all that is needed of it here is its shape

MAX_DOCUMENTS = 1000
"""A request with more is refused, as Cohere's API does."""
MAX_HISTORY = 10_000
"""Likewise; far more than is read of a history."""
Seconds = Annotated[int, Field(ge=0, lt=TOO_LATE)]
log = logging.getLogger(__name__)


class Document(BaseModel):
    """A candidate given as an object; other fields are let through and ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    item_id: str
    text: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _either_name(cls, raw: Any) -> Any:
        return {"item_id": raw["id"], **raw} if isinstance(raw, dict) and "id" in raw else raw


class RerankRequest(BaseModel):
    """The body of POST /v1/rerank; fields of other servers are ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    model: str | None = None
    """Accepted and ignored: a server has one model, and the answer names it."""
    query: Any = None
    """Accepted and ignored: what the person wants is read from user_history."""
    documents: list[str | Document] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    """Item ids, or objects with an `id` or `item_id`, in incoming order."""
    user_history: list[str] = Field(default=[], max_length=MAX_HISTORY)
    """Item ids, oldest first."""
    history_times: list[Seconds] | None = Field(default=None, max_length=MAX_HISTORY)
    """When each of them was: seconds, on the clock of the log. Left out, the model knows what came before what."""
    time: Seconds | None = None
    """When the person asks, on the same clock; left out, at the newest event that log or history know of."""
    think: bool = False
    """Whether the model reasons before it answers."""
    top_n: int | None = Field(default=None, ge=1)
    """How many results to return; all where it is left out."""
    return_documents: bool = False
    """Whether each result repeats its document."""

    @field_validator("documents", "user_history")
    @classmethod
    def _whole_letters(cls, given: list[Any]) -> list[Any]:
        """JSON can hold half an emoji, which no answer can repeat: it cannot be written as UTF-8."""
        for place, one in enumerate(given):
            text = f"{one.item_id}{one.text or ''}" if isinstance(one, Document) else one
            if whole_letters(text) != text:
                raise ValueError(f"number {place} holds half a letter (an unpaired surrogate); send whole ones")
        return given

    @field_validator("history_times")
    @classmethod
    def _one_an_item(cls, times: list[int] | None, info: ValidationInfo) -> list[int] | None:
        items = info.data.get("user_history")
        if times is not None and items is not None and len(times) != len(items):
            raise ValueError(f"{len(times)} of them for {len(items)} history items; send one an item, or none")
        return times

    def item_ids(self) -> list[str]:
        return [d if isinstance(d, str) else d.item_id for d in self.documents]


class Status(BaseModel):
    """How far the answer is the model's."""

    code: Literal["ok", "partial", "fallback"]
    """ok: all documents ranked; partial: some documents or history items left out; fallback: incoming order."""
    detail: str
    unknown_documents: list[str] = []
    """Ids that are not in the catalogue."""
    unknown_history: int = 0
    """History items left out because they are not in the catalogue."""
    echo: bool
    """Whether all that is in the catalogue comes back in incoming order."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What of a request is ranked."""

    slate: Slate
    ranked: tuple[int, ...]
    """Indexes of the documents that are the slate's candidates."""
    rest: tuple[int, ...]
    """Indexes of all other documents: unknown, duplicate, or beyond the first k."""
    left_out: tuple[str, ...]
    """Why, one phrase a reason."""
    unknown_documents: tuple[str, ...]
    unknown_history: int


def plan(request: RerankRequest, request_id: str, bundle: "Bundle") -> Plan:
    """The slate to rank, and what stays out of it."""
    item_ids = request.item_ids()
    first_known = {item: i for i, item in reversed(list(enumerate(item_ids))) if item in bundle.items}
    distinct = sorted(first_known.values())
    ranked = distinct[: bundle.k]
    unknown = [item for item in item_ids if item not in bundle.items]
    known = [i for i, item in enumerate(request.user_history) if item in bundle.items]
    times = tuple(request.history_times[i] for i in known) if request.history_times is not None else ()
    reasons = {
        "unknown": len(unknown),
        "duplicate": len(item_ids) - len(unknown) - len(distinct),
        f"beyond the {bundle.k} that are ranked at once": len(distinct) - len(ranked),
    }
    return Plan(
        slate=Slate(
            slate_id=request_id,
            user_id="",
            split=Split.TEST,
            time=max((bundle.now, *times)) if request.time is None else request.time,
            history=tuple(request.user_history[i] for i in known),
            history_times=times,
            candidates=tuple(item_ids[i] for i in ranked),
            scores=tuple(-float(place) for place in range(len(ranked))),
            gains=(0,) * len(ranked),
        ),
        ranked=tuple(ranked),
        rest=tuple(i for i in range(len(item_ids)) if i not in set(ranked)),
        left_out=tuple(f"{n} {reason}" for reason, n in reasons.items() if n),
        unknown_documents=tuple(dict.fromkeys(unknown)),
        unknown_history=len(request.user_history) - len(known),
    )


def ask(bundle: "Bundle", slate: Slate, think: bool, one_at_a_time: Lock) -> tuple[Ranking | None, str]:
    """The model's ranking, or None and why there is none."""
    if not slate.candidates:
        return None, "no document is in the catalogue"
    try:
        with one_at_a_time:
            (ranking,) = bundle.rank([slate], think=think)
    except Exception as error:
        log.exception("request %s: the ranker failed", slate.slate_id)
        return None, f"the ranker failed ({type(error).__name__}); see the server's log"
    if sorted(ranking.order) != list(range(len(slate.candidates))):
        log.error("request %s: order %s is no permutation", slate.slate_id, ranking.order)
        return None, "the ranker returned no permutation"
    if ranking.status is not AnswerStatus.VALID:
        return None, f"the model's answer was not valid ({ranking.status})"
    return ranking, ""


def status_of(plan: Plan, ranking: Ranking | None, problem: str) -> Status:
    notes = [f"incoming order: {problem}"] if problem else []
    if plan.left_out and not problem:
        notes.append(f"last, in incoming order: {', '.join(plan.left_out)}")
    if plan.unknown_history:
        notes.append(f"{plan.unknown_history} unknown history items ignored")
    return Status(
        code="fallback" if problem else "partial" if notes else "ok",
        detail="; ".join(notes) or "all documents ranked",
        unknown_documents=list(plan.unknown_documents),
        unknown_history=plan.unknown_history,
        echo=ranking is None or list(ranking.order) == sorted(ranking.order),
    )


def rerank(request: RerankRequest, bundle: "Bundle", one_at_a_time: Lock, came: float) -> dict[str, Any]:
    """The body of the answer to a request that came at `came`, by time.perf_counter. A result's relevance_score is
    1 / its rank: it orders, and is no probability."""
    request_id = uuid.uuid4().hex
    todo = plan(request, request_id, bundle)
    ranking, problem = ask(bundle, todo.slate, request.think, one_at_a_time)
    best_first = [todo.ranked[c] for c in ranking.order] + list(todo.rest) if ranking else range(len(request.documents))
    results = [
        {
            "index": index,
            "relevance_score": 1 / rank,
            **(_echo(request, index, bundle) if request.return_documents else {}),
        }
        for rank, index in enumerate(best_first, 1)
    ]
    thought = {"thought": readable(ranking.thought, todo.slate, bundle.items, bundle.ids.of)} if ranking else {}
    return {
        "id": request_id,
        "model": bundle.name,
        "results": results[: request.top_n],
        "status": status_of(todo, ranking, problem).model_dump(),
        **(thought if thought.get("thought") else {}),
        "meta": {
            "documents": len(request.documents),
            "ranked": len(todo.ranked) if ranking else 0,
            "history": len(todo.slate.history),
        },
        "milliseconds": round(1000 * (time.perf_counter() - came), 2),
    }


def _echo(request: RerankRequest, index: int, bundle: "Bundle") -> dict[str, Any]:
    document = request.documents[index]
    item_id = request.item_ids()[index]
    given = document.text if isinstance(document, Document) else None
    known = bundle.items.get(item_id)
    return {"document": {"id": item_id, "text": given or (known.text if known else item_id)}}
