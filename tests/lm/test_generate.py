"""A held answer is always valid, whatever the weights; the constraint allows exactly what can still become valid."""

import pytest
import shop
import torch

from gr2.lm.generate import AnswerConstraint, Budget, complete
from gr2.lm.rank import rank_by_writing
from gr2.prompt.parse import parse
from gr2.types import AnswerStatus, Split

CLOSE, STOP, PAD = 90, 91, 92


def constraint(think: bool, budget: int = 3) -> AnswerConstraint:
    candidates = [torch.tensor([[1, 2], [1, 3], [4, 2]])]
    return AnswerConstraint(candidates, 0, think=think, close=CLOSE, stop=STOP, pad=PAD, budget=budget)


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ([], [1, 4]),
        ([1], [2, 3]),
        ([1, 3], [1, 4]),
        ([1, 3, 1], [2]),
        ([1, 3, 1, 2], [4]),
        ([1, 3, 1, 2, 4, 2], [STOP]),
        ([1, 3, 1, 2, 4, 2, STOP], [PAD]),
    ],
)
def test_allowed_tokens(written, allowed):
    assert constraint(think=False).allowed(0, written) == allowed
    assert constraint(think=True).allowed(0, [7, CLOSE, *written]) == allowed


def test_a_thought_is_free_until_its_budget_is_spent():
    assert constraint(think=True).allowed(0, [7, 7]) is None
    assert constraint(think=True).allowed(0, [7, 7, 7]) == [CLOSE]


@pytest.mark.parametrize("think", [True, False])
def test_held_answers_of_random_models_are_valid(think):
    slates = shop.slates(6, Split.TEST)
    for seed in range(3):
        checkpoint = shop.checkpoint(seed)
        texts = complete(
            checkpoint, slates, think=think, constrained=True, budget=Budget(thought=5, batch_size=4), label="x"
        )
        for slate, text in zip(slates, texts, strict=True):
            assert parse(text, len(slate.candidates), think=think).status is AnswerStatus.VALID


def test_an_invalid_free_answer_falls_back_to_the_incoming_order_and_says_so():
    slates = shop.slates(4, Split.TEST)
    checkpoint = shop.checkpoint()
    rankings = rank_by_writing(checkpoint, slates, think=True, constrained=False, budget=Budget(thought=5), label="x")
    assert {r.status for r in rankings} == {AnswerStatus.NO_THOUGHT_END}
    assert all(r.order == tuple(range(shop.K)) for r in rankings)
