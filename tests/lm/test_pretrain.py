"""The base that ships with gr2: it can be trained, and what ships can read a list that it never saw."""

import numpy as np
import pytest
import shop
import torch

from gr2.errors import UserError
from gr2.lm.alignment import Marks, Row, candidate_list
from gr2.lm.nano import NanoConfig, new_model, train_tokenizer
from gr2.lm.pretrain import look_up_share, pretrain, start_from_base, vocabulary
from gr2.lm.train import FitConfig
from gr2.lm.vocabulary import grow
from gr2.record import StageFolder, read_metrics

TINY = NanoConfig(width=32, layers=2, head_width=16, feed=64, context=512)


def nano():
    """A model of the default shape that starts from the base, and its tokenizer, for ids of 6 x 4 codes."""
    tokenizer = train_tokenizer([i.text for i in shop.items()], 300)
    grow(tokenizer, shop.semantic_ids(), markers=False)
    model = new_model(NanoConfig(), len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, 0)
    start_from_base(model, tokenizer, 0)
    return model.eval(), tokenizer


def test_what_ships_binds_labels_to_ids_in_shops_of_which_it_knows_nothing():
    """The ids of a catalogue of 6 x 4 codes, under a tokenizer that the base has never met."""
    model, tokenizer = nano()
    one = tokenizer.convert_tokens_to_ids
    codes = np.array([[one(f"<s_{level}_{c}>") for c in range(4)] for level in "ab"])
    slates = [np.random.default_rng(s).permutation(16)[:10] for s in range(40)]
    marks = Marks.of(one)
    rows = [look_up(marks, codes, slate.tolist(), seed) for seed, slate in enumerate(slates)]
    number = {"<|pad|>": one("<|pad|>"), "</think>": marks.end_think}
    share = look_up_share(model, rows, set(marks.labels), number)
    assert share > 0.5  # guessing gives .1, guessing among those not yet named .29


def look_up(marks, codes, slate, seed):
    spelled = [[int(codes[0, i // 4]), int(codes[1, i % 4])] for i in slate]
    read = [marks.history, *candidate_list(marks, spelled), marks.think]
    order = np.random.default_rng(seed).permutation(10).tolist()
    named = [token for c in order for token in (*spelled[c], marks.labels[c])]
    said = [*named, marks.end_think, *(marks.labels[c] for c in order), marks.end]
    return Row(tokens=read + said, counts=[False] * len(read) + [True] * len(said))


def test_tokens_that_the_base_does_not_know_get_random_embeddings_of_the_usual_size():
    model, tokenizer = nano()
    known = [tokenizer.get_vocab()[name] for name in vocabulary() if name in tokenizer.get_vocab()]
    others = sorted(set(range(len(tokenizer))) - set(known))
    assert len(known) == len(vocabulary()) - 4 * 64 + 6 + 4
    embeddings = model.get_input_embeddings().weight
    assert embeddings[others].std().item() == pytest.approx(embeddings[known].std().item(), rel=0.3)
    again, _ = nano()
    assert torch.equal(again.get_input_embeddings().weight, embeddings)


def test_another_shape_is_the_users_error():
    model = new_model(TINY, 400, 0, 1, 0)
    with pytest.raises(UserError, match="another shape; set base = false"):
        start_from_base(model, None, 0)


def test_pretraining_learns(tmp_path):
    config = FitConfig(steps=60, batch_size=8, learning_rate=1e-2, warmup_steps=5)
    pretrain(config, 40, TINY, 0, StageFolder(path=tmp_path, resumed=False))
    losses = [row["loss"] for row in read_metrics(tmp_path) if row["phase"] == "pretrain"]
    assert losses[-1] < 0.8 * losses[0]
