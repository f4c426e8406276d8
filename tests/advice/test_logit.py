"""What counts advise: weights and columns by hand, learning in the shop, and the same advice after saving."""

from dataclasses import replace
from math import log, log1p

import numpy as np
import pytest
import shop

from gr2.advice.conditional_logit import fit
from gr2.advice.features import Knowledge
from gr2.advice.logit import LEAST, Advisor, advice_of, columns, fit_advisor, padded
from gr2.errors import UserError
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.rank import rank_in_one_pass
from gr2.record import write_json
from gr2.retrieve.neighbours import remember, with_votes
from gr2.types import Split

CORPUS = shop.corpus()
NEIGHBOURS = remember(CORPUS)


def asked(n: int, split: Split):
    return with_votes(shop.slates(n, split), NEIGHBOURS, CORPUS.row, {})


def advisor() -> Advisor:
    knowledge = Knowledge.of(CORPUS, seed=0, codes=shop.semantic_ids().codes)
    return fit_advisor(asked(30, Split.TRAIN), knowledge)


def test_weight_by_hand():
    # One column, 1 for the first of two candidates and 0 for the second; 3 of 4 take the first: sigmoid(w) = 3 / 4.
    x_SKG = np.array([[[1.0], [0.0]]] * 4)
    real_SK, targets = np.ones((4, 2), bool), np.array([0, 0, 0, 1])
    assert fit(x_SKG, real_SK, targets, ridge=0.0).item() == pytest.approx(log(3), abs=1e-5)
    assert 0 < fit(x_SKG, real_SK, targets, ridge=0.8).item() < log(3)


def test_padding_takes_no_probability():
    # A third candidate that is not there changes nothing.
    x_SKG = np.array([[[1.0], [0.0], [9.0]]] * 4)
    real_SK = np.array([[True, True, False]] * 4)
    assert fit(x_SKG, real_SK, np.array([0, 0, 0, 1]), ridge=0.0).item() == pytest.approx(log(3), abs=1e-5)


def test_columns_by_hand():
    names = ["rank", "score", "together_last1", "year"]
    matrix_KF = np.array([[0, 5.0, 0.1, 1990], [1, 4.0, 0.0, np.nan]])
    read, x_KG = columns(names, matrix_KF)
    assert read == ("rank", "together_last1", "year")
    place, share = log1p(1), log((0.1 + LEAST) / LEAST)
    np.testing.assert_allclose(x_KG, [[place / 2, share / 2, 0], [-place / 2, -share / 2, 0]], atol=1e-12)


def test_shorter_slates_are_padded_behind():
    x_SKG, real_SK = padded([np.ones((2, 3)), np.ones((1, 3))])
    assert x_SKG.sum((1, 2)).tolist() == [6, 3]
    assert real_SK.tolist() == [[True, True], [True, False]]


def test_it_learns_the_taste_of_the_shop():
    test = advisor().advise(asked(40, Split.TEST))
    hits = [int(np.argmax(s.advice)) == s.target for s in test]
    assert np.mean(hits) > 0.9  # guessing: 1 / 4


def test_advice_follows_the_order_it_is_shown():
    (slate,) = asked(1, Split.TEST)
    one = advisor()
    assert "rank" in one.names
    (first,), (second,) = one.advise([slate]), one.advise([replace(slate, candidates=slate.candidates[::-1])])
    assert first.advice != pytest.approx(second.advice[::-1])


def test_a_longer_history_than_any_it_learned_from_is_cut():
    one, (slate,) = advisor(), asked(1, Split.TEST)
    assert one.history == 3  # of the shop's slates
    longer = replace(slate, history=(*shop.slates(9, Split.TRAIN)[8].history, *slate.history))
    assert one.advise([longer])[0].advice == one.advise([slate])[0].advice


def test_saved_and_read_back_it_says_the_same(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(24, 4))
    knowledge = Knowledge.of(CORPUS, seed=0, vectors=vectors, codes=shop.semantic_ids().codes)
    train = [replace(s, user_id=f"u{i % 30}") for i, s in enumerate(asked(300, Split.TRAIN))]
    made, test = fit_advisor(train, knowledge), asked(5, Split.TEST)
    assert made.trees
    made.save(tmp_path)
    again = Advisor.load(tmp_path, replace(CORPUS, timelines=()), shop.semantic_ids().codes)
    assert advice_of(again.advise(test)).tolist() == advice_of(made.advise(test)).tolist()
    assert again.trees
    assert again.trees.num_trees() == made.trees.num_trees()
    assert again.history == made.history
    assert again.knowledge.counts.everyone.until == 5  # the shop's training events are at seconds 0 to 5
    (tmp_path / "advisor.safetensors").unlink()
    with pytest.raises(UserError):
        Advisor.load(tmp_path, CORPUS, shop.semantic_ids().codes)
    write_json(tmp_path / "advisor.json", ["rank"])  # as gr2 wrote it at first
    with pytest.raises(UserError, match="older gr2"):
        Advisor.load(tmp_path, CORPUS, shop.semantic_ids().codes)


def test_without_training_slates_nothing_is_advised():
    nothing = fit_advisor([], Knowledge.of(CORPUS, seed=0))
    assert {a for s in nothing.advise(shop.slates(2, Split.TEST)) for a in s.advice} <= {0.0}


def test_a_great_weight_ranks_by_advice(tmp_path):
    checkpoint = replace(shop.checkpoint(), advice=1e6)
    slates = [replace(s, advice=tuple(map(float, range(len(s.candidates))))) for s in shop.slates(3, Split.TEST)]
    for ranking in rank_in_one_pass(checkpoint, slates, batch_size=2, label=None):
        assert list(ranking.order) == list(range(shop.K))[::-1]
    checkpoint.save(tmp_path)
    assert Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids()).advice == 1e6
