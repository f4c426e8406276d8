"""A held answer is always valid, whatever the weights; the constraint allows exactly what can still become valid."""

import pytest
import shop

from gr2.lm.generate import AnswerConstraint, Budget, complete
from gr2.lm.rank import rank_by_writing
from gr2.prompt.parse import parse
from gr2.types import AnswerStatus, Split

CLOSE, STOP, PAD = 90, 91, 92
CONSTRAINT = AnswerConstraint([[1, 2, 3]], 0, close=CLOSE, stop=STOP, pad=PAD, budget=3)


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ([7, 2], None),
        ([7, 2, 7], [CLOSE]),
        ([7, CLOSE], [1, 2, 3]),
        ([2, CLOSE, 2], [1, 3]),
        ([CLOSE, 3, 1], [2]),
        ([CLOSE, 3, 1, 2], [STOP]),
        ([CLOSE, 3, 1, 2, STOP], [PAD]),
    ],
)
def test_allowed_tokens(written, allowed):
    """A thought is free until its budget is spent; then come the labels, each once."""
    assert CONSTRAINT.allowed(0, written) == allowed


def test_held_answers_of_random_models_are_valid():
    slates = shop.slates(6, Split.TEST)
    for seed in range(3):
        checkpoint = shop.checkpoint(seed)
        budget = Budget(thought=5, batch_size=4)
        for text in complete(checkpoint, slates, constrained=True, budget=budget, label="x"):
            assert parse(text, shop.K).status is AnswerStatus.VALID


def test_an_invalid_free_answer_falls_back_to_the_incoming_order_and_says_so():
    slates = shop.slates(4, Split.TEST)
    checkpoint = shop.checkpoint()
    rankings = rank_by_writing(checkpoint, slates, constrained=False, budget=Budget(thought=5), label="x")
    assert {r.status for r in rankings} == {AnswerStatus.NO_THOUGHT_END}
    assert all(r.order == tuple(range(shop.K)) for r in rankings)
