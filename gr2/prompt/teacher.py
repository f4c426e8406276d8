"""What a language model that teaches is asked. Its prompts are checked template files, known by their digest.

Item text can hold anything, and the teacher's own control tokens are not known here, so every "<" and every square
bracket of it is written otherwise: only our own labels look like `[c1]`, and nothing looks like a token. (ours)

Source: P1's five and P2's six principles (method §3), the wording ours; docs/teachers.md says which line is which.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

from gr2.errors import UserError
from gr2.record import digest_json
from gr2.types import Item, Slate

Layout = Literal["user_first", "candidates_first"]
FIELDS: dict[str, set[str]] = {
    "system": set(),
    "priming": set(),
    "item": {"label", "text"},
    "history": {"history"},
    "candidates": {"candidates"},
    "target": {"target"},
    "ask": {"k"},
}
"""Section of a template file -> the fields that it must have, and no others."""
LONGEST = 300
"""Characters of an item's text that are shown."""

_SECTION = re.compile(r"^\[(\w+)\]\n", re.MULTILINE)
_FIELD = re.compile(r"\{(\w+)\}")
_PLAIN = str.maketrans("<[]", "\u2039()")  # no tag without its "<"; the ">" of a category path may stay


@dataclass(frozen=True, kw_only=True)
class TeacherTemplate:
    """A checked file and how it is used."""

    name: str
    sections: Mapping[str, str]
    """Name -> text, for every section of FIELDS."""
    priming: bool
    """Whether the teacher is reminded of what it knows of the domain: KP (P1 §3, P2 §3)."""
    layout: Layout
    """Which block comes first: servers keep what prompts have in common at their beginning (P2)."""

    @cached_property
    def digest(self) -> str:
        """Names all that the prompt depends on but the slate."""
        return digest_json([dict(self.sections), self.priming, self.layout])


def load_teacher_template(name: str, *, priming: bool, layout: Layout) -> TeacherTemplate:
    """The checked file `templates/teacher_<name>.txt`.

    Raises UserError for a name that is no file, ValueError for a file whose sections or fields are not FIELDS'.
    """
    folder = files("gr2.prompt") / "templates"
    path = folder / f"teacher_{name}.txt"
    if not path.is_file():
        known = sorted(p.name[len("teacher_") : -len(".txt")] for p in folder.iterdir() if p.name[:8] == "teacher_")
        raise UserError(f"[traces.openai] template = {name!r}: there is no such one; take one of {', '.join(known)}")
    head, *parts = _SECTION.split(path.read_text(encoding="utf-8"))
    sections = {section: text.strip("\n") for section, text in zip(parts[::2], parts[1::2], strict=True)}
    found = {section: set(_FIELD.findall(text)) for section, text in sections.items()}
    if head or len(parts) != 2 * len(FIELDS) or found != FIELDS:
        raise ValueError(f"{path}: wants each of the sections and fields {FIELDS} once, has {found}")
    return TeacherTemplate(name=name, sections=sections, priming=priming, layout=layout)


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Writes slates as questions to a teacher."""

    template: TeacherTemplate
    items: Mapping[str, Item]
    history: int
    """How many of the newest history items are shown."""

    def messages(self, slate: Slate, *, target_shown: bool) -> list[dict[str, str]]:
        """The chat: what is common to all slates as the system's message, the slate as the user's.

        Nothing of the slate's gains is in it unless the target is shown (targeted sampling).
        """
        text = self.template.sections
        blocks = {
            "history": self._list("h", slate.history[-self.history :][::-1]),
            "candidates": self._list("c", slate.candidates),
        }
        names = list(blocks) if self.template.layout == "user_first" else list(blocks)[::-1]
        parts = [_filled(text[name], {name: blocks[name]}) for name in names]
        if target_shown:
            parts.append(_filled(text["target"], {"target": f"c{slate.target + 1}"}))
        parts.append(_filled(text["ask"], {"k": len(slate.candidates)}))
        system = [text["system"], *([text["priming"]] if self.template.priming else [])]
        return [
            {"role": "system", "content": "\n\n".join(system)},
            {"role": "user", "content": "\n\n".join(parts)},
        ]

    def _list(self, kind: str, item_ids: Sequence[str]) -> str:
        lines = [
            _filled(self.template.sections["item"], {"label": f"{kind}{number}", "text": plain(self.items[i].text)})
            for number, i in enumerate(item_ids, 1)
        ]
        return "\n".join(lines) or "(empty)"


def plain(text: str) -> str:
    """One line of at most LONGEST characters in which nothing can pass for a label, a tag or a control token."""
    printable = "".join(c for c in " ".join(text.split()) if unicodedata.category(c) not in ("Cc", "Cs"))
    short = printable if len(printable) <= LONGEST else printable[: LONGEST - 1] + "…"
    return short.translate(_PLAIN)


def _filled(text: str, values: Mapping[str, Any]) -> str:
    """Each field replaced once: a `{history}` inside a title stays what it is."""
    return _FIELD.sub(lambda field: str(values[field[1]]), text)
