"""The item head: its nats and scores by hand, saved and read back, and learned in mid-training."""

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
import shop
import torch

from gr2.lm.checkpoint import Checkpoint
from gr2.lm.item_head import START, ItemEmbedding, ItemHead, head_of, start_from_texts
from gr2.lm.rank import scores_at_once, voices_at_once
from gr2.lm.train import FitConfig
from gr2.prompt.render import CANDIDATES, THINK
from gr2.stages import s03_midtrain
from gr2.stages.s10_direct import weigh
from gr2.types import Split

EMBED = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])


def test_nats_by_hand():
    hidden = torch.tensor([[log(3), 0.0]])  # scores log 3, 0, 0: 3 / 5 for the first item
    assert ItemHead(EMBED).nats(hidden, torch.tensor([0])).item() == pytest.approx(-log(3 / 5), abs=1e-6)


def test_scores_by_hand():
    found = ItemHead(EMBED).scores(torch.tensor([[3.0, 5.0]]), torch.tensor([[1, 0, 2]]))
    assert found.tolist() == [[10.0, 3.0, 0.0]]


def test_vectors_start_as_principal_components():
    # All spread lies along (1, 1): one column holds it, in the texts' own order, and the rest is empty.
    head = start_from_texts(torch.tensor([[0.0, 0.0], [1.0, 1.0], [4.0, 4.0]]), width=3)
    along = head.embed[:, 0] * torch.sign(head.embed[2, 0])
    assert along.argsort().tolist() == [0, 1, 2]
    assert head.embed[:, 1:].abs().max().item() < 1e-6
    assert head.embed[:, :2].std().item() == pytest.approx(START, rel=1e-3)


def test_items_are_read_where_their_ids_end():
    checkpoint = shop.checkpoint_with_head()
    embeddings = checkpoint.model.get_input_embeddings()
    assert isinstance(embeddings, ItemEmbedding)
    number = checkpoint.tokenizer.convert_tokens_to_ids
    a, b = (checkpoint.id_tokens.spelled[i].tolist() for i in (7, 3))
    history, think = number("<|history|>"), number(THINK)
    row = [history, *a, *b, b[0], history, b[1], *a, think, *a]
    read = embeddings.items_read(torch.tensor([row]))[0].tolist()
    assert [(at, item) for at, item in enumerate(read) if item >= 0] == [(2, 7), (4, 3), (9, 7)]
    assert embeddings.items_read(torch.tensor([[a[1]]])).tolist() == [[-1]]
    added = embeddings(torch.tensor([row]))[0] - embeddings.weight[row]
    assert added[2].tolist() == pytest.approx((embeddings.scale * embeddings.head.embed[7]).tolist(), abs=1e-5)
    assert added[-1].abs().max() == 0  # what is written behind <think> is read by its codes


@torch.inference_mode()
def test_voices_are_the_words_behind_the_prompt_the_advice_and_the_head_where_the_history_ends():
    checkpoint = shop.checkpoint_with_head()
    slates = [replace(s, advice=tuple(map(float, range(shop.K)))) for s in shop.slates(3, Split.TEST)]
    heard = voices_at_once(checkpoint, slates)
    head = head_of(checkpoint.model)
    assert head is not None
    for slate, row in zip(slates, heard.tolist(), strict=True):
        text = checkpoint.renderer.prompt(slate, think=False)
        tokens = checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"]
        past = tokens[: tokens.index(checkpoint.tokenizer.convert_tokens_to_ids(CANDIDATES))]
        states = checkpoint.model.model(input_ids=torch.tensor([past])).last_hidden_state[0]
        for c, (words, advice, items, anyone) in enumerate(row):
            spelled = checkpoint.id_tokens.of([slate.candidates[c]])[0].tolist()
            logp = checkpoint.model(input_ids=torch.tensor([[*tokens, *spelled]])).logits[0].log_softmax(-1)
            assert words == pytest.approx(
                sum(logp[len(tokens) - 1 + at, t].item() for at, t in enumerate(spelled)), abs=1e-3
            )
            assert advice == c
            number = checkpoint.id_tokens.row[slate.candidates[c]]
            assert items == pytest.approx((head.embed[number] @ states[-1]).item(), abs=1e-3)
            assert anyone == pytest.approx((head.embed[number] @ states[0]).item(), abs=1e-3)
    weighted = scores_at_once(replace(checkpoint, words=0.3, advice=0.5, items=2.0, anyone=-0.5), slates)
    assert torch.allclose(weighted, heard @ torch.tensor([0.3, 0.5, 2.0, -0.5]), atol=1e-4)


def test_saved_and_read_back_it_scores_the_same(tmp_path):
    checkpoint, slates = (
        replace(shop.checkpoint_with_head(), words=0.5, items=0.7, anyone=-0.2),
        shop.slates(2, Split.TEST),
    )
    checkpoint.save(tmp_path)
    again = Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids())
    assert torch.equal(scores_at_once(again, slates), scores_at_once(checkpoint, slates))
    shop.checkpoint().save(tmp_path / "plain")
    assert head_of(Checkpoint.load(tmp_path / "plain", shop.corpus(), shop.semantic_ids()).model) is None


def test_mid_training_teaches_it_the_shop(tmp_path):
    """Everybody keeps to one department of six with four items: at best log 4 = 1.39 nats an item, of log 24 = 3.18."""
    config = s03_midtrain.Config(
        nano=shop.NANO, base=False, history=5, k=shop.K,
        histories=80, fit=FitConfig(steps=150, batch_size=4, learning_rate=1e-2, warmup_steps=10),
    )  # fmt: skip
    vectors = np.random.default_rng(0).normal(size=(24, 8))
    corpus = shop.corpus(60)
    checkpoint = s03_midtrain.midtrain(corpus, shop.semantic_ids(), config, 0, shop.work(tmp_path), vectors)
    by_head = s03_midtrain.validation_nats(checkpoint, corpus).get("nats_by_head")
    assert by_head is not None
    assert log(4) - 0.1 < by_head < 2.0
    assert exp(-by_head) > 3 / 24
    slates = shop.slates(100, Split.VALID)  # one candidate is of the department
    firsts = voices_at_once(checkpoint, slates)[..., 2].argmax(1).tolist()
    assert sum(first == slate.target for first, slate in zip(firsts, slates, strict=True)) > 90
    assert weigh(checkpoint, slates).items > 0.5
    assert s03_midtrain.validation_nats(shop.checkpoint(), corpus).get("nats_by_head") is None
