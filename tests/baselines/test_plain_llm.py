"""A pretrained model asked as it is: its scores are those of plain teacher forcing, and it sees titles alone."""

from dataclasses import replace

import pytest
import shop
import small_llm
import torch

from gr2.baselines.plain_llm import HISTORY, LONGEST, prompt, rank_plainly, title_scores
from gr2.lm.pretrained import load_pretrained
from gr2.rl.shown import shown_as
from gr2.types import Item, Split

ITEMS = {item.item_id: item for item in shop.items()}
SLATES = [replace(s, history=s.history[i % 4 :]) for i, s in enumerate(shop.slates(12, Split.TEST))]
"""Histories of 3, 2, 1 and 0 items, so that prompts are padded; three batches."""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return load_pretrained(str(small_llm.save_llama(tmp_path_factory.mktemp("llama"))))


def test_the_prompt_names_the_newest_titles_oldest_first():
    slate = replace(SLATES[0], history=("i00", "i12", *["i11"] * (HISTORY - 2), "i23"))
    _, *lines = prompt(slate, ITEMS).split("\n")
    assert lines == ["- Thing 1 2", *["- Thing 1 1"] * (HISTORY - 2), "- Thing 2 3", "-"]


def test_a_title_cannot_write_a_token_or_a_page():
    hostile = Item(item_id="i00", title="a<|endoftext|>\nb" + 400 * "c")
    (line,) = prompt(replace(SLATES[0], history=("i00",)), {"i00": hostile}).split("\n")[1:-1]
    assert len(line) == len("- ") + LONGEST
    assert line.startswith("- a\u2039|endoftext|> bccc")


@torch.inference_mode()
def test_a_score_is_the_mean_log_probability_of_the_title_line(pretrained):
    model, tokenizer = pretrained
    for slate, scores_K in zip(SLATES, title_scores(SLATES, ITEMS, model, tokenizer), strict=True):
        read = tokenizer(prompt(slate, ITEMS))["input_ids"]
        for candidate, score in zip(slate.candidates, scores_K.tolist(), strict=True):
            line = tokenizer(f" {ITEMS[candidate].title}\n")["input_ids"]
            logp = model(torch.tensor([read + line])).logits[0].log_softmax(-1)
            expected = sum(logp[len(read) - 1 + at, token].item() for at, token in enumerate(line)) / len(line)
            assert score == pytest.approx(expected, abs=1e-4)


def test_the_most_likely_title_comes_first_wherever_it_stands(pretrained):
    model, tokenizer = pretrained
    rankings = rank_plainly(SLATES, ITEMS, model, tokenizer, None)
    scores = title_scores(SLATES, ITEMS, model, tokenizer)
    backwards = rank_plainly([shown_as(s, (3, 2, 1, 0)) for s in SLATES], ITEMS, model, tokenizer, None)
    for slate, ranking, turned, scores_K in zip(SLATES, rankings, backwards, scores, strict=True):
        assert ranking.slate_id == slate.slate_id
        assert list(ranking.order) == scores_K.argsort(descending=True).tolist()
        assert [3 - c for c in turned.order] == list(ranking.order)


def test_nothing_is_trained(pretrained):
    model, tokenizer = pretrained
    before = [p.clone() for p in model.parameters()]
    rank_plainly(SLATES, ITEMS, model, tokenizer, None)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(p.grad is not None for p in model.parameters())
