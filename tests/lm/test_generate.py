"""A held answer is always valid, whatever the weights; the constraint allows exactly what can still become valid."""

import pytest
import shop
import torch

from gr2.lm.generate import AnswerConstraint, Budget, complete, prompt_tokens, reason
from gr2.lm.onepass import hidden_states, read_candidates
from gr2.lm.rank import rank_by_thinking, rank_by_writing, slate_tree
from gr2.prompt.parse import parse
from gr2.teach.rationale import ARROW
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


def test_reasons_are_the_likeliest_words_as_far_as_the_arrow():
    """Word by word the model's own argmax behind the prompt; what stops it is left out, and the arrow stands last."""
    checkpoint, slates = shop.checkpoint(), shop.slates(3, Split.TEST)
    arrow = checkpoint.tokenizer(f" {ARROW} ", add_special_tokens=False)["input_ids"]
    prompts = prompt_tokens(checkpoint, slates, think=True)
    rows, texts = reason(checkpoint, slates, budget=Budget(thought=4, batch_size=2), label="x")
    for prompt, row, text in zip(prompts, rows, texts, strict=True):
        own = row[len(prompt) : -len(arrow)]
        assert row == prompt + own + arrow
        assert len(own) <= 4
        assert text == checkpoint.tokenizer.decode(own)
        with torch.inference_mode():
            likeliest = checkpoint.model(input_ids=torch.tensor([prompt + own])).logits[0].argmax(-1).tolist()
        assert own == likeliest[len(prompt) - 1 : -1]
        assert not {ARROW, "</think>"} & set(text.split())


def test_a_thinking_ranking_is_that_of_the_ids_behind_the_reasons():
    checkpoint, slates = shop.checkpoint(), shop.slates(5, Split.TEST)
    budget = Budget(thought=4, batch_size=2)
    rows, texts = reason(checkpoint, slates, budget=budget, label="x")
    with torch.inference_mode():
        tree = slate_tree(checkpoint, rows, slates)
        scores = read_candidates(checkpoint.model, hidden_states(checkpoint.model, tree), tree)
    for ranking, row, text in zip(
        rank_by_thinking(checkpoint, slates, budget=budget, label="x"), scores.tolist(), texts, strict=True
    ):
        assert list(ranking.order) == sorted(range(shop.K), key=lambda c, row=row: -row[c])
        assert ranking.thought == f"{text.strip()} {ARROW} [c{ranking.order[0] + 1}]"
        assert ranking.status is AnswerStatus.VALID
