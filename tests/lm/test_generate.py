"""A held answer is always valid, whatever the weights; the constraint allows exactly what can still become valid."""

import pytest
import shop
import torch

from gr2.lm.generate import AnswerConstraint, Budget, CitationConstraint, complete, prompt_tokens, reason
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


def shown_ids(checkpoint, slate):
    return checkpoint.id_tokens.of(checkpoint.renderer.shown(slate)).tolist()


@pytest.mark.parametrize(
    ("written", "following"),
    [
        ([], (False, [1, 2])),
        ([50, 1], (True, [11, 12])),
        ([50, 2], (True, [11])),
        ([50, 1, 12], (False, [1, 2])),  # a whole id; another may follow
        ([1, 12, 2, 11, 2], (True, [11])),
        ([1, 12, 50], (False, [1, 2])),
    ],
)
def test_ids_that_may_follow(written, following):
    """Of a history of the ids 1-11, 1-12 and 2-11; 3 and 13 are codes of other items, and 50 is a word."""
    hold = CitationConstraint([[[1, 11], [1, 12], [2, 11]], []], 0, [1, 2, 3, 11, 12, 13])
    assert hold.following(0, written) == following
    scores = hold(torch.tensor([written, written], dtype=torch.long), torch.zeros(2, 60))
    begun, codes = following
    assert torch.isfinite(scores[0]).nonzero()[:, 0].tolist() == (
        codes if begun else sorted({*codes, *range(60)} - ({1, 2, 3, 11, 12, 13} - {*codes}))
    )
    assert not torch.isfinite(scores[1, [1, 2, 3, 11, 12, 13]]).any()  # nothing to cite


def test_reasons_cite_nothing_but_the_history_that_is_shown():
    for seed in range(5):
        checkpoint, slates = shop.checkpoint(seed), shop.slates(20, Split.TEST)
        with torch.no_grad():  # weights that love ids
            checkpoint.model.lm_head.weight[checkpoint.id_tokens.spelled.unique()] *= 5
        prompts = prompt_tokens(checkpoint, slates, think=True)
        rows, _ = reason(checkpoint, slates, budget=Budget(thought=6), label=None)
        known = set(checkpoint.id_tokens.spelled.unique().tolist())
        for slate, prompt, row in zip(slates, prompts, rows, strict=True):
            spelled = [token for token in row[len(prompt) :] if token in known]
            ids = shown_ids(checkpoint, slate)
            assert all(spelled[at : at + 2] in ids for at in range(0, len(spelled) - len(spelled) % 2, 2))


def test_reasons_are_the_likeliest_words_as_far_as_the_arrow():
    """Word by word what the model finds likeliest of what it may write; what stops it is left out, the arrow stands
    last."""
    checkpoint, slates = shop.checkpoint(), shop.slates(3, Split.TEST)
    arrow = checkpoint.tokenizer(f" {ARROW} ", add_special_tokens=False)["input_ids"]
    prompts = prompt_tokens(checkpoint, slates, think=True)
    rows, texts = reason(checkpoint, slates, budget=Budget(thought=4, batch_size=2), label="x")
    codes = checkpoint.id_tokens.spelled.unique().tolist()
    for slate, prompt, row, text in zip(slates, prompts, rows, texts, strict=True):
        own = row[len(prompt) : -len(arrow)]
        assert row == prompt + own + arrow
        assert len(own) <= 4
        assert text == checkpoint.tokenizer.decode(own)
        hold = CitationConstraint([shown_ids(checkpoint, slate)], len(prompt), codes)
        for at, token in enumerate(own):
            so_far = torch.tensor([prompt + own[:at]])
            with torch.inference_mode():
                assert token == hold(so_far, checkpoint.model(input_ids=so_far).logits[:, -1])[0].argmax().item()
        assert not {ARROW, "</think>"} & set(text.split())


def test_a_thinking_ranking_is_that_of_the_labels_behind_the_reasons():
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
