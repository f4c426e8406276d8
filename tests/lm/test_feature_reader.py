"""A model that reads features: its scores by plain passes, what stays blind to them, on disk and back, and learned."""

from dataclasses import replace

import numpy as np
import pytest
import shop
import torch
from safetensors.torch import load_file

from gr2.artifacts import Slates
from gr2.evaluate.metrics import recall_at_1
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.feature_reader import FeatureReader, attach, attach_new, features_of, reader_of
from gr2.lm.generate import Budget, complete, prompt_tokens
from gr2.lm.onepass import hidden_states, read_words
from gr2.lm.rank import rank_in_one_pass, scores_at_once, slate_tree
from gr2.lm.train import FitConfig
from gr2.prompt.render import LABELS
from gr2.stages.s10_direct import Config, direct
from gr2.types import Split

F = 3


def with_features(slates, seed=0):
    rng = np.random.default_rng(seed)
    return [replace(s, features=rng.normal(size=(len(s.candidates), F)).astype(np.float16)) for s in slates]


def reading(checkpoint, seed=0):
    """A checkpoint whose reader has some weights."""
    torch.manual_seed(seed)
    reader = FeatureReader(F, checkpoint.model.config.hidden_size)
    for parameter in reader.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    attach(checkpoint.model, reader)
    return checkpoint


def test_one_that_learned_nothing_keeps_the_incoming_order():
    checkpoint, slates = shop.checkpoint(), with_features(shop.slates(4, Split.TEST))
    attach_new(checkpoint.model, F, seed=0)
    assert {r.order for r in rank_in_one_pass(checkpoint, slates, batch_size=3, label=None)} == {tuple(range(shop.K))}


@pytest.mark.parametrize("make", [shop.checkpoint, shop.checkpoint_with_head])
@torch.inference_mode()
def test_a_score_is_that_of_a_plain_pass_over_prompt_id_and_label(make):
    """Each candidate in a row of its own, what its features add to the label's embedding added by hand."""
    checkpoint, slates = reading(make()), with_features(shop.slates(3, Split.TEST))
    slates = [replace(s, history=s.history[: 1 + i], history_times=()) for i, s in enumerate(slates)]  # padded apart
    model, reader = checkpoint.model, reader_of(checkpoint.model)
    scores = scores_at_once(checkpoint, slates)
    labels = checkpoint.tokenizer.convert_tokens_to_ids(list(LABELS))
    for b, slate in enumerate(slates):
        (prompt,) = prompt_tokens(checkpoint, [slate], think=False)
        for c, spelled in enumerate(checkpoint.id_tokens.of(slate.candidates).tolist()):
            embedded = model.get_input_embeddings()(torch.tensor([[*prompt, *spelled, labels[c]]]))
            embedded[0, -1] += reader.scale * reader.embed(torch.from_numpy(slate.features[c]).float())
            state = model.model(inputs_embeds=embedded).last_hidden_state[0, -1]
            assert scores[b, c].item() == pytest.approx((state @ reader.weigh).item(), abs=1e-4)


def test_words_never_see_features():
    """Neither the loss of a text beside which candidates are asked about, nor what is written."""
    checkpoint, slates = reading(shop.checkpoint()), shop.slates(3, Split.TEST)
    texts = [[*p, 7, 8] for p in prompt_tokens(checkpoint, slates, think=True)]
    weights = [[0.0] * (len(t) - 2) + [1.0, 1.0] for t in texts]
    losses, scores = [], []
    with torch.inference_mode():
        for told in (with_features(slates, 1), with_features(slates, 2)):
            tree = slate_tree(checkpoint, texts, told)
            losses.append(read_words(checkpoint.model, hidden_states(checkpoint.model, tree), tree, weights).item())
            scores.append(scores_at_once(checkpoint, told))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert (scores[0] - scores[1]).abs().max() > 1e-2
    written = complete(checkpoint, slates, constrained=True, budget=Budget(thought=3), label=None)
    assert written == complete(shop.checkpoint(), slates, constrained=True, budget=Budget(thought=3), label=None)


def test_a_slate_without_features_is_refused():
    checkpoint, slates = reading(shop.checkpoint()), with_features(shop.slates(2, Split.TEST))
    with pytest.raises(ValueError, match="ask the advisor first"):
        scores_at_once(checkpoint, [slates[0], replace(slates[1], features=None)])


@pytest.mark.parametrize("make", [shop.checkpoint, shop.checkpoint_with_head])
def test_on_disk_and_back(make, tmp_path):
    checkpoint, slates = reading(make()), with_features(shop.slates(3, Split.TEST))
    checkpoint.save(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "reader" in name]
    again = Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids())
    with torch.inference_mode():
        assert torch.equal(scores_at_once(checkpoint, slates), scores_at_once(again, slates))
    assert reader_of(checkpoint.model) is not None  # saving takes it off for a moment


@pytest.mark.parametrize("order", ["C", "F"])
def test_slates_on_disk_keep_their_features(tmp_path, order):
    slates = [replace(s, features=np.array(s.features, order=order)) for s in with_features(shop.slates(3, Split.TEST))]
    slates[1] = replace(slates[1], candidates=slates[1].candidates[:2], features=slates[1].features[:2])
    Slates(slates=tuple(slates)).save(tmp_path)
    for slate, again in zip(slates, Slates.load(tmp_path).slates, strict=True):
        assert again == slate
        assert again.features.dtype == np.float16
        assert np.array_equal(again.features, slate.features)


def test_features_are_learned(tmp_path):
    """The first feature is larger for whoever is taken in three slates of four, and nothing else says anything."""

    def hinted(slates, seed):
        rng = np.random.default_rng(seed)
        told = []
        for slate in with_features(slates, seed):
            slate.features[slate.target if rng.random() < 0.75 else rng.integers(shop.K), 0] += 4
            told.append(slate)
        return told

    train, valid = hinted(shop.slates(400, Split.TRAIN), 1), hinted(shop.slates(200, Split.VALID), 2)
    checkpoint = shop.checkpoint()
    attach_new(checkpoint.model, features_of(train[:1]).shape[-1], seed=0)
    fit = FitConfig(steps=80, batch_size=32, learning_rate=1e-2, warmup_steps=10)
    config = Config(fit=fit, features=True, beta=0.0, valid_slates=20, thoughts=100)
    direct(checkpoint, Slates(slates=(*train, *valid)), config, 0, shop.work(tmp_path))
    assert features_of(valid).shape == (200, shop.K, F)
    assert recall_at_1(valid, rank_in_one_pass(checkpoint, valid, batch_size=64, label=None)) > 0.6
