"""From a model's words to an Answer: a status, never a bool, and never a repair (ours)."""

import re

from gr2.prompt.render import END, END_THINK, Renderer
from gr2.types import Answer, AnswerStatus, Slate


def parse(text: str, slate: Slate, renderer: Renderer, *, think: bool) -> Answer:
    """Read a completion. VALID means: every candidate exactly once, nothing else, and the end was reached."""
    thought, answer = "", text
    if think:
        thought, closed, answer = text.partition(END_THINK)
        if not closed:
            return Answer(status=AnswerStatus.NO_THOUGHT_END, order=(), thought=thought)
    answer, ended, after = answer.partition(END)
    status, order = _read_order(answer, slate, renderer)
    if status is AnswerStatus.VALID and not ended:
        status = AnswerStatus.PARTIAL
    if status is AnswerStatus.VALID and after:
        status = AnswerStatus.TRAILING
    return Answer(status=status, order=order, thought=thought)


def _read_order(answer: str, slate: Slate, renderer: Renderer) -> tuple[AnswerStatus, tuple[int, ...]]:
    position = {renderer.sid(item): c for c, item in enumerate(slate.candidates)}
    width = len(next(iter(renderer.ids.values())).codes)
    order: list[int] = []
    rest = answer
    while rest:
        spelled = _take_one(rest, width)
        if spelled is None or spelled not in position:
            complete = len(order) == len(position)
            return (AnswerStatus.TRAILING if complete else AnswerStatus.UNKNOWN_ITEM), tuple(order)
        if position[spelled] in order:
            complete = len(order) == len(position)
            return (AnswerStatus.TRAILING if complete else AnswerStatus.DUPLICATE), tuple(order)
        order.append(position[spelled])
        rest = rest[len(spelled) :]
    return (AnswerStatus.VALID if len(order) == len(position) else AnswerStatus.PARTIAL), tuple(order)


def _take_one(text: str, width: int) -> str | None:
    """The one spelled id at the start of `text`, or None."""
    match = re.match(rf"(?:<\|sid_begin\|>)?(?:<s_[a-z]_\d+>){{{width}}}(?:<\|sid_end\|>)?", text)
    return match.group() if match else None
