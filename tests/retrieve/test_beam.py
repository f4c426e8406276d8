import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import shop
import torch

from gr2.lm.checkpoint import Checkpoint
from gr2.prompt.render import HISTORY, PAD
from gr2.retrieve.beam import beam, beam_items
from gr2.sid.trie import Trie

HISTORIES = [("i00", "i11", "i22"), ("i53",), ("i00", "i01", "i02", "i03", "i10")]


def exact(checkpoint: Checkpoint, history: Sequence[str]) -> dict[str, float]:
    """Every item's log P(id | history), an item at a time."""
    ids = checkpoint.id_tokens
    start = [checkpoint.tokenizer.convert_tokens_to_ids(HISTORY), *ids.of(history).flatten().tolist()]
    found = {}
    for item, spelled in zip(ids.item_ids, ids.spelled.tolist(), strict=True):
        with torch.inference_mode():
            logp = checkpoint.model(torch.tensor([start + spelled])).logits[0].log_softmax(-1)
        found[item] = sum(logp[len(start) - 1 + n, token].item() for n, token in enumerate(spelled))
    return found


def test_a_beam_as_wide_as_the_catalogue_is_the_exact_ranking() -> None:
    checkpoint = shop.checkpoint(seed=1)
    lists = beam_items(checkpoint, HISTORIES, [()] * len(HISTORIES), width=24, batch_size=2, label=None)
    for history, items in zip(HISTORIES, lists, strict=True):
        scores = exact(checkpoint, history)
        assert sorted(items) == sorted(scores)
        ranked = [scores[item] for item in items]
        assert all(a >= b - 1e-4 for a, b in itertools.pairwise(ranked))


def test_scores_are_log_probabilities_and_every_id_exists() -> None:
    checkpoint = shop.checkpoint(seed=2)
    ids, number = checkpoint.id_tokens, checkpoint.tokenizer.convert_tokens_to_ids
    prompts = [[number(HISTORY), *ids.of(h).flatten().tolist()] for h in HISTORIES]
    written, total = beam(checkpoint.model, prompts, Trie(ids.spelled.numpy()), number(PAD), 5)
    spelled = {tuple(s): item for item, s in zip(ids.item_ids, ids.spelled.tolist(), strict=True)}
    assert written.shape == (3, 5, 2)
    for history, rows, values in zip(HISTORIES, written.tolist(), total, strict=True):
        scores = exact(checkpoint, history)
        assert len({tuple(row) for row in rows}) == 5
        assert values.tolist() == pytest.approx([scores[spelled[tuple(row)]] for row in rows], abs=1e-4)


def test_a_beam_is_no_wider_than_there_are_prefixes() -> None:
    checkpoint = shop.checkpoint()
    few = Trie(np.array(checkpoint.id_tokens.spelled)[[0, 1, 5]])
    number = checkpoint.tokenizer.convert_tokens_to_ids
    written, _ = beam(checkpoint.model, [[number(HISTORY)]], few, number(PAD), 50)
    assert written.shape == (1, 3, 2)
