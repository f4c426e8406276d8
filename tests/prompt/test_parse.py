"""Tables of good and bad completions."""

import pytest
import shop

from gr2.prompt.parse import parse
from gr2.types import AnswerStatus, Split

CHECKPOINT = shop.checkpoint()
RENDERER = CHECKPOINT.renderer
SLATE = shop.slates(1, Split.TRAIN)[0]
A, B, C, D = (RENDERER.sid(item) for item in SLATE.candidates)
FOREIGN = next(RENDERER.sid(i) for i in RENDERER.items if i not in SLATE.candidates)


@pytest.mark.parametrize(
    ("answer", "status", "order"),
    [
        (f"{A}{B}{C}{D}<|end|>", "valid", (0, 1, 2, 3)),
        (f"{D}{A}{C}{B}<|end|>", "valid", (3, 0, 2, 1)),
        (f"{A}{B}{C}{D}", "partial", (0, 1, 2, 3)),
        (f"{A}{B}<|end|>", "partial", (0, 1)),
        ("<|end|>", "partial", ()),
        ("", "partial", ()),
        (f"{A}{A}{C}{D}<|end|>", "duplicate", (0,)),
        (f"{A}{FOREIGN}{C}{D}<|end|>", "unknown_item", (0,)),
        (f"{A} {B}{C}{D}<|end|>", "unknown_item", (0,)),
        (f"{A}{B}{C}{D}{A}<|end|>", "trailing", (0, 1, 2, 3)),
        (f"{A}{B}{C}{D} thanks<|end|>", "trailing", (0, 1, 2, 3)),
        (f"{A}{B}{C}{D}<|end|>more", "trailing", (0, 1, 2, 3)),
        (f"{A}{B}{C}<s_a_0><|end|>", "unknown_item", (0, 1, 2)),
        ("first, the second, then the third", "unknown_item", ()),
    ],
)
def test_answers(answer, status, order):
    direct = parse(answer, SLATE, RENDERER, think=False)
    assert (direct.status, direct.order) == (AnswerStatus(status), order)
    thinking = parse(f"because</think>{answer}", SLATE, RENDERER, think=True)
    assert (thinking.status, thinking.order, thinking.thought) == (AnswerStatus(status), order, "because")


def test_a_thought_that_never_ends():
    answer = parse(f"hm {A}{B}{C}{D}<|end|>", SLATE, RENDERER, think=True)
    assert answer.status is AnswerStatus.NO_THOUGHT_END
    assert answer.order == ()


def test_gold_answer_is_valid_on_every_slate():
    for slate in shop.slates(50, Split.TEST):
        order = (slate.target, *(c for c in range(shop.K) if c != slate.target))
        answer = parse(RENDERER.answer(slate, order) + "<|end|>", slate, RENDERER, think=False)
        assert (answer.status, answer.order) == (AnswerStatus.VALID, order)
