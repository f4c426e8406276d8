"""Tables of good and bad completions about four candidates."""

import pytest

from gr2.prompt.parse import parse
from gr2.types import AnswerStatus


@pytest.mark.parametrize(
    ("answer", "status", "order"),
    [
        ("<c_1><c_2><c_3><c_4><|end|>", "valid", (0, 1, 2, 3)),
        ("<c_4><c_1><c_3><c_2><|end|>", "valid", (3, 0, 2, 1)),
        ("<c_1><c_2><c_3><c_4>", "partial", (0, 1, 2, 3)),
        ("<c_1><c_2><|end|>", "partial", (0, 1)),
        ("<|end|>", "partial", ()),
        ("", "partial", ()),
        ("<c_1><c_1><c_3><c_4><|end|>", "duplicate", (0,)),
        ("<c_1><c_5><c_3><c_4><|end|>", "unknown_item", (0,)),
        ("<c_0><c_1><c_2><c_3><|end|>", "unknown_item", ()),
        ("<c_1> <c_2><c_3><c_4><|end|>", "unknown_item", (0,)),
        ("<c_1><c_2><c_3><c_4><c_1><|end|>", "trailing", (0, 1, 2, 3)),
        ("<c_1><c_2><c_3><c_4> thanks<|end|>", "trailing", (0, 1, 2, 3)),
        ("<c_1><c_2><c_3><c_4><|end|>more", "trailing", (0, 1, 2, 3)),
        ("<c_1><c_2><c_3><s_a_0><|end|>", "unknown_item", (0, 1, 2)),
        ("first, the second, then the third", "unknown_item", ()),
    ],
)
def test_answers(answer, status, order):
    read = parse(f"because</think>{answer}", 4)
    assert (read.status, read.order, read.thought) == (AnswerStatus(status), order, "because")


def test_a_thought_that_never_ends():
    answer = parse("hm <c_1><c_2><c_3><c_4><|end|>", 4)
    assert answer.status is AnswerStatus.NO_THOUGHT_END
    assert answer.order == ()
