"""From a model's words to an Answer: a status, never a bool, and never a repair (ours)."""

import re

from gr2.prompt.render import END, END_THINK
from gr2.types import Answer, AnswerStatus

_LABEL = re.compile(r"<c_(\d+)>")


def parse(text: str, k: int) -> Answer:
    """Read `thought</think>answer<|end|>` about `k` candidates.

    VALID means: the thought ends, and then every label from 1 to k exactly once, nothing else, and the end was reached.
    """
    thought, closed, answer = text.partition(END_THINK)
    if not closed:
        return Answer(status=AnswerStatus.NO_THOUGHT_END, order=(), thought=thought)
    answer, ended, after = answer.partition(END)
    status, order = _read_order(answer, k)
    if status is AnswerStatus.VALID and not ended:
        status = AnswerStatus.PARTIAL
    if status is AnswerStatus.VALID and after:
        status = AnswerStatus.TRAILING
    return Answer(status=status, order=order, thought=thought)


def _read_order(answer: str, k: int) -> tuple[AnswerStatus, tuple[int, ...]]:
    order: list[int] = []
    rest = answer
    while rest:
        label = _LABEL.match(rest)
        candidate = int(label.group(1)) - 1 if label else -1
        if len(order) == k:
            return AnswerStatus.TRAILING, tuple(order)
        if label is None or not 0 <= candidate < k:
            return AnswerStatus.UNKNOWN_ITEM, tuple(order)
        if candidate in order:
            return AnswerStatus.DUPLICATE, tuple(order)
        order.append(candidate)
        rest = rest[label.end() :]
    return (AnswerStatus.VALID if len(order) == k else AnswerStatus.PARTIAL), tuple(order)
