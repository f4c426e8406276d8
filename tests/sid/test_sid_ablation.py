import itertools

import numpy as np
import pytest
import shop

from gr2.sid import ablation_arms, ablation_grid
from gr2.sid.ablation_arms import ARMS, REFERENCE, arm, held_out, nats_of_events
from gr2.sid.ablation_grid import RANDOM, TECHNIQUES, Catalogue, cell, once
from gr2.sid.ablation_rows import arm_rows, grid_rows, matches
from gr2.sid.engagement import co_engaged_pairs
from gr2.stages.s03_midtrain import validation_nats
from gr2.types import Split


@pytest.fixture(scope="module")
def catalogue():
    corpus = shop.corpus()
    text = np.random.default_rng(0).normal(size=(len(corpus.items), 6)).astype(np.float32)
    pairs = co_engaged_pairs(corpus.train_sequences(), corpus.row, window=2)
    return Catalogue(corpus=corpus, text=text, vectors=text, pairs=pairs)


def measured(**techniques):
    """A cell whose figures are made up: EMA adds .4 to unique, random last codes .1, the contrastive loss takes .2."""
    on = {name: techniques.get(name, False) for name in (*TECHNIQUES, RANDOM)}
    unique = 0.4 + 0.4 * on["EMA"] + 0.1 * on[RANDOM] - 0.2 * on["contrastive loss"]
    return {**on, "unique": unique, "error": 0.5 - 0.1 * on["EMA"], "usage": 1.0}


def test_grid_rows_by_hand():
    names = (*TECHNIQUES, RANDOM)
    values = itertools.product((False, True), repeat=len(names))
    cells = [measured(**dict(zip(names, row, strict=True))) for row in values]
    rows = {(r.row, r.metric): r for r in grid_rows(cells, 7)}
    ema = rows["EMA", "change of unique"]
    assert (ema.ours, ema.low, ema.high) == (pytest.approx(0.4), pytest.approx(0.4), pytest.approx(0.4))
    assert (ema.paper, ema.match, ema.n) == (0.662, "direction only", 7)
    # without EMA: .4 on average plus half of .1 less half of .2
    without = rows["EMA", "unique without"]
    assert (without.ours, without.paper, without.match) == (pytest.approx(0.4 + 0.05 - 0.1), 0.313, "yes")
    assert rows["EMA", "unique with"].match == "no"
    assert rows["EMA", "change of error"].ours == pytest.approx(-0.1)
    assert rows["diversity loss", "change of unique"].match == "yes"
    assert rows["EMA and random last level", "least unique"].ours == pytest.approx(0.7)
    assert rows["EMA and random last level", "least unique"].match == "no"
    assert ("configurations at 99% unique", "use the random last level") not in rows


@pytest.mark.parametrize(
    ("ours", "paper", "word"),
    [(0.3, 0.29, "yes"), (0.1, 0.6, "direction only"), (-0.1, 0.6, "no"), (0.04, 0.006, "yes")],
)
def test_matches(ours, paper, word):
    assert matches(ours, paper) == word


def test_a_cell_measures_its_own_and_random_last_codes(catalogue, monkeypatch):
    monkeypatch.setattr(ablation_grid, "SIZES", (4, 4, 256))
    own, drawn = cell(catalogue, dict.fromkeys(TECHNIQUES, True), steps=3)
    assert (own[RANDOM], drawn[RANDOM]) == (False, True)
    assert all(own[name] is True for name in TECHNIQUES)
    assert 0 <= own["unique"] <= 1
    assert drawn["unique"] > 0.5
    assert own["error"] < drawn["error"]


def test_an_arm_makes_unique_ids_and_one_number_an_event(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_arms, "SIZES", (4, 4, 4))
    values = arm(catalogue, REFERENCE, tmp_path, rqvae_steps=2, midtrain_steps=2)
    assert values["unique_share"] == 1
    assert len(values["nats"]) == 30
    # a model that has learned nothing yet: about log of the tokens a code, 3 codes an id
    assert 3 * np.log(12) < np.mean(values["nats"]) < 3 * np.log(3000)
    assert list(tmp_path.iterdir()) == []
    rows = {(r.row, r.metric): r for r in arm_rows({REFERENCE: values, "other": values}, 24)}
    assert rows["other", f"nats less those of {REFERENCE}"].ours == 0
    assert rows[REFERENCE, "nats per item"].n == 30
    assert rows["other", "unique"].ours == 1


def test_nats_are_those_of_mid_training():
    checkpoint, corpus = shop.checkpoint(), held_out(shop.corpus(), users=9)
    values = nats_of_events(checkpoint, corpus)
    assert len(values) == 9
    assert values.mean() == pytest.approx(validation_nats(checkpoint, corpus)["nats_per_item"], abs=1e-4)


def test_held_out_keeps_all_training_events_and_no_test_event():
    corpus = held_out(shop.corpus(), users=4)
    assert corpus.train_sequences() == shop.corpus().train_sequences()
    splits = [split for t in corpus.timelines for split in t.splits]
    assert splits.count(Split.VALID) == 4
    assert Split.TEST not in splits


def test_every_arm_is_a_config():
    for changes in ARMS.values():
        assert ablation_arms._sids(changes, 5).rqvae.steps == 5


def test_what_is_done_is_not_done_again(tmp_path):
    asked = []
    for key in (1, 1, 2):
        once(tmp_path / "x.json", key, lambda key=key: asked.append(key))
    assert asked == [1, 2]
