"""The mid-trained model's likelihood behind a category thought, on the made-up shop."""

from dataclasses import replace
from types import MappingProxyType

import shop
import torch

from gr2.baselines.category_thought import LEAD, category_paths, continuations, rank_by_category_thought
from gr2.lm.generate import prompt_tokens
from gr2.lm.rank import rank_in_one_pass, scores
from gr2.prompt.render import END, END_THINK
from gr2.types import Item, Split

SLATES = shop.slates(6, Split.TEST)


def test_paths_are_those_of_the_captions():
    items = [
        Item(item_id="a", title="t", categories=("Hair", "Care <think>")),
        Item(item_id="b", title="t", categories=("Hair", "Care <think>")),
        Item(item_id="c", title="t"),
    ]
    assert category_paths(items) == ["Hair > Care (think)"]
    assert all(f"{LEAD}{' > '.join(i.categories)}" in i.text for i in items[:1])


def test_continuations_by_hand():
    assert continuations([[1, 2, 9], [1, 3, 9], [1, 9]]) == {(): [1], (1,): [2, 3, 9], (1, 2): [9], (1, 3): [9]}


def test_the_thought_is_a_path_and_the_ids_are_scored_behind_it():
    checkpoint = shop.checkpoint()
    rankings = rank_by_category_thought(checkpoint, SLATES, batch_size=4, label=None)
    assert [r.slate_id for r in rankings] == [s.slate_id for s in SLATES]
    assert {r.thought for r in rankings} <= {f"shop > department {d}" for d in range(shop.DEPARTMENTS)}
    for slate, ranking in zip(SLATES, rankings, strict=True):
        prompt = prompt_tokens(checkpoint, [slate], think=True)[0]
        said = checkpoint.tokenizer(LEAD + ranking.thought + END_THINK, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            expected = scores(checkpoint, [[*prompt, *said]], [slate])[0]
        assert list(ranking.order) == expected.argsort(descending=True, stable=True).tolist()


def test_each_token_of_the_thought_is_the_likeliest_that_may_follow():
    checkpoint = shop.checkpoint()
    slate = SLATES[0]
    thought = rank_by_category_thought(checkpoint, [slate], batch_size=1, label=None)[0].thought
    encode = checkpoint.tokenizer
    paths = [
        encode(f"{LEAD}shop > department {d}{END}", add_special_tokens=False)["input_ids"]
        for d in range(shop.DEPARTMENTS)
    ]
    said = encode(LEAD + thought + END, add_special_tokens=False)["input_ids"]
    prompt = prompt_tokens(checkpoint, [slate], think=True)[0]
    for at, token in enumerate(said):
        with torch.inference_mode():
            logits = checkpoint.model(torch.tensor([[*prompt, *said[:at]]])).logits[0, -1]
        choices = sorted({path[at] for path in paths if path[:at] == said[:at]})
        assert token == max(choices, key=lambda t: float(logits[t]))


def test_without_categories_it_is_the_likelihood_at_once():
    checkpoint = shop.checkpoint()
    bare = {i: replace(item, categories=()) for i, item in checkpoint.renderer.items.items()}
    checkpoint = replace(checkpoint, renderer=replace(checkpoint.renderer, items=MappingProxyType(bare)))
    rankings = rank_by_category_thought(checkpoint, SLATES, batch_size=4, label=None)
    at_once = rank_in_one_pass(checkpoint, SLATES, batch_size=4, label=None)
    assert [r.order for r in rankings] == [r.order for r in at_once]
    assert {r.thought for r in rankings} == {""}
