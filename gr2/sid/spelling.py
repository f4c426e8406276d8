"""The only place that spells a semantic id as text, and that keeps item text from spelling one.

`SemanticId(codes=(57, 7, 23))` is `<s_a_57><s_b_7><s_c_23>`: a letter a level, so that equal codes of
two levels are two tokens (P1 §2.4).
"""

import re
from collections.abc import Sequence
from string import ascii_lowercase

from gr2.types import SemanticId

BEGIN = "<|sid_begin|>"
END = "<|sid_end|>"

_CODE = re.compile(r"<s_([a-z])_(0|[1-9][0-9]*)>")
_TAG = re.compile(r"<\|.*?\|>|</?\w+>", re.DOTALL)
_ROUND = str.maketrans("<>", "()")


def token(level: int, code: int) -> str:
    """The vocabulary entry of one code: `token(0, 57) == "<s_a_57>"`."""
    return f"<s_{ascii_lowercase[level]}_{code}>"


def tokens(codebook_sizes: Sequence[int], *, markers: bool) -> list[str]:
    """All entries that a vocabulary needs: codes level by level, then the two markers if wanted."""
    codes = [token(level, code) for level, size in enumerate(codebook_sizes) for code in range(size)]
    return [*codes, BEGIN, END] if markers else codes


def spell(sid: SemanticId, *, markers: bool) -> str:
    """`<s_a_57><s_b_7><s_c_23>`, with `markers` between `<|sid_begin|>` and `<|sid_end|>`."""
    body = "".join(token(level, code) for level, code in enumerate(sid.codes))
    return f"{BEGIN}{body}{END}" if markers else body


def read(text: str) -> SemanticId:
    """The inverse of `spell`, with or without markers. Raises ValueError unless `text` is exactly one spelled id."""
    found = _CODE.findall(text)
    sid = SemanticId(codes=tuple(int(code) for _, code in found))
    if not found or text not in (spell(sid, markers=False), spell(sid, markers=True)):
        raise ValueError(f"not a semantic id: {text!r}")
    return sid


def defuse(text: str) -> str:
    """Item text in which nothing can pass for an id or a control token: `a <think> b` becomes `a (think) b`.

    Touches one-word tags (`<s_a_1>`, `</think>`, `<tool_call>`) and `<|...|>`, and only their angle brackets.
    It works until none is left, because mending an inner tag can complete an outer one.
    """
    while (mended := _TAG.sub(lambda m: m.group().translate(_ROUND), text)) != text:
        text = mended
    return text
