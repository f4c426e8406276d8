"""From a teacher's reply to reasons and a ranking: a status, never a bool, and never a repair. (ours)

A whole reply is one JSON object `{"explanation": ..., "recommendations": [...]}`. It may stand in one ``` fence and may
follow a thought that ends in `</think>`, for that is how many models write; nothing else may stand around it.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gr2.letters import whole_letters
from gr2.prompt.render import END_THINK
from gr2.sid.spelling import defuse

KEYS = {"explanation", "recommendations"}


class ReplyStatus(StrEnum):
    """What the parser made of a teacher's words. Only VALID is a ranking with its reasons."""

    VALID = "valid"
    EMPTY = "empty"
    CUT = "cut"
    """The limit of tokens came before the end."""
    NOT_JSON = "not_json"
    """No JSON object where it has to begin."""
    TRAILING = "trailing"
    """Words after the object."""
    WRONG_SHAPE = "wrong_shape"
    """Other keys than the two, one of them twice, or values of another type."""
    UNKNOWN_ITEM = "unknown_item"
    """A recommendation that is no candidate's label."""
    DUPLICATE = "duplicate"
    PARTIAL = "partial"
    """Too few candidates."""
    UNCITED = "uncited"
    """Reasons that rest on no item of the lists."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A parsed reply."""

    status: ReplyStatus
    order: tuple[int, ...] = ()
    """Candidate positions, best first; a permutation of range(K) if VALID, else what could be read."""
    reasons: str = ""
    """One line in which every `[h1]` and `[c1]` is of the lists and nothing can pass for an id or a control token."""


_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_LABEL = re.compile(r"c([1-9][0-9]{0,3})|\[c([1-9][0-9]{0,3})\]")
_CITED = re.compile(r"\[\s*([hc]\d+(?:(?:\s*[,;&]\s*|\s+and\s+|\s+)[hc]\d+)*)\s*\]", re.IGNORECASE)
_NUMBERED = re.compile(r"([hc])(\d+)", re.IGNORECASE)


def read_reply(text: str, *, cut: bool, k: int, history: int) -> Reply:
    """Read a reply about `k` candidates and `history` shown history items; `cut` when the token limit ended it."""
    body = _body(text)
    if not body:
        return Reply(status=ReplyStatus.CUT if cut else ReplyStatus.EMPTY)
    try:
        if not body.startswith("{"):
            raise ValueError("no object")
        value, end = json.JSONDecoder(object_pairs_hook=_pairs).raw_decode(body)
    except (ValueError, RecursionError):
        return Reply(status=ReplyStatus.CUT if cut else ReplyStatus.NOT_JSON)
    if body[end:].strip():
        return Reply(status=ReplyStatus.TRAILING)
    if not _is_shaped(value):
        return Reply(status=ReplyStatus.WRONG_SHAPE)
    status, order = _read_order(value["recommendations"], k)
    reasons = citable(value["explanation"], k=k, history=history)
    if status is ReplyStatus.VALID and not _CITED.search(reasons):
        status = ReplyStatus.UNCITED
    return Reply(status=status, order=order, reasons=reasons)


def citable(text: str, *, k: int, history: int) -> str:
    """A teacher's words as a student may learn them, on one line.

    `[c1, H2]` becomes `[c1] [h2]`; a label of no item of the lists becomes plain words, `[c99]` -> `(c99)`; so do
    spelled ids and control tokens (`spelling.defuse`).
    """
    last = {"h": history, "c": k}

    def known(kind: str, number: str) -> bool:
        return len(number) <= 4 and 1 <= int(number) <= last[kind]

    def cited(match: re.Match[str]) -> str:
        labels = [(kind.lower(), number) for kind, number in _NUMBERED.findall(match[1])]
        return " ".join(f"[{kind}{int(n)}]" if known(kind, n) else f"({kind}{n})" for kind, n in labels)

    return _CITED.sub(cited, defuse(" ".join(whole_letters(text).split())))


def _body(text: str) -> str:
    """The text without a thought before it and without one fence around it."""
    body = text.strip()
    _, closed, after = body.partition(END_THINK)
    if closed and not body.startswith(("{", "```")):
        body = after.strip()
    fenced = _FENCED.fullmatch(body)
    return fenced[1].strip() if fenced else body


def _pairs(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict, or an empty one when a key comes twice: json would silently keep the last."""
    listed = list(pairs)
    found = dict(listed)
    return found if len(found) == len(listed) else {}


def _is_shaped(value: dict[str, Any]) -> bool:
    if set(value) != KEYS or not isinstance(value["explanation"], str):
        return False
    ranking = value["recommendations"]
    return isinstance(ranking, list) and all(isinstance(label, str) for label in ranking)


def _read_order(labels: list[str], k: int) -> tuple[ReplyStatus, tuple[int, ...]]:
    order: list[int] = []
    for text in labels:
        label = _LABEL.fullmatch(text)
        candidate = int(label[1] or label[2]) - 1 if label else -1
        if not 0 <= candidate < k:
            return ReplyStatus.UNKNOWN_ITEM, tuple(order)
        if candidate in order:
            return ReplyStatus.DUPLICATE, tuple(order)
        order.append(candidate)
    return (ReplyStatus.VALID if len(order) == k else ReplyStatus.PARTIAL), tuple(order)
