"""What counts advise: its three parts, learning in the shop, and the same advice after saving."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import shop
from safetensors.numpy import load_file, save_file

from gr2.advice.advisor import Advisor, advice_of, cross_advised, fit_advisor, rounded
from gr2.advice.features import SCORES, Knowledge, features
from gr2.advice.network import Scale
from gr2.advice.past import Past
from gr2.advice.practised import Practised, learn_practised
from gr2.advice.sample import Sample
from gr2.advice.sequence import Sequences, fit_sequences
from gr2.errors import UserError
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.rank import rank_in_one_pass
from gr2.record import read_json, write_json
from gr2.retrieve.neighbours import remember, with_votes
from gr2.retrieve.sasrec import SasrecConfig
from gr2.types import DAY, Split

CORPUS = shop.corpus()
NEIGHBOURS = remember(CORPUS)


def asked(n: int, split: Split):
    return with_votes(shop.slates(n, split), NEIGHBOURS, CORPUS.row, {})


def advisor() -> Advisor:
    knowledge = Knowledge.of(CORPUS, seed=0, codes=shop.semantic_ids().codes)
    return fit_advisor(Sample.of(asked(30, Split.TRAIN), knowledge), knowledge, seed=0)


def test_it_learns_the_taste_of_the_shop():
    test = advisor().advise(asked(40, Split.TEST))
    hits = [int(np.argmax(s.advice)) == s.target for s in test]
    assert np.mean(hits) > 0.9  # guessing: 1 / 4


def test_advice_follows_the_order_it_is_shown():
    (slate,) = asked(1, Split.TEST)
    one = advisor()
    assert "rank" in one.logit.names
    (first,), (second,) = one.advise([slate]), one.advise([replace(slate, candidates=slate.candidates[::-1])])
    assert first.advice != pytest.approx(second.advice[::-1])


def test_a_longer_history_than_any_it_learned_from_is_cut():
    one, (slate,) = advisor(), asked(1, Split.TEST)
    assert one.history == 3  # of the shop's slates
    longer = replace(slate, history=(*shop.slates(9, Split.TRAIN)[8].history, *slate.history))
    assert one.advise([longer])[0].advice == one.advise([slate])[0].advice


def test_features_are_told_scaled_as_the_training_slates_are_with_advice_and_without(tmp_path):
    """Standardised over the training candidates, then sign(z) log(1 + |z|); the pre-ranker's scores are left out."""
    knowledge, train, test = Knowledge.of(CORPUS, seed=0), asked(30, Split.TRAIN), asked(5, Split.TEST)
    sample = Sample.of(train, knowledge)
    one = replace(fit_advisor(sample, knowledge, seed=0), scale=Scale.of(sample.without(SCORES)))
    names, matrices = features(train, knowledge)
    kept = [f for f, name in enumerate(names) if name not in SCORES]
    seen_MF = np.ma.masked_invalid(np.concatenate(matrices)[:, kept].astype(np.float64))
    mean_F, deviation_F = seen_MF.mean(0).filled(0), seen_MF.std(0).filled(0)
    z_SKF = (np.stack(features(test, knowledge)[1])[:, :, kept] - mean_F) / (deviation_F + 1e-6)
    expected_SKF = np.nan_to_num(np.sign(z_SKF) * np.log1p(np.abs(z_SKF)))
    one.save(tmp_path)
    again = Advisor.load(tmp_path, CORPUS, np.zeros((len(CORPUS.items), 1), int))
    again = replace(again, knowledge=knowledge)
    for asked_so in (one.advise, one.tell, again.advise, again.tell):
        told = asked_so(test)
        np.testing.assert_allclose(np.stack([s.features for s in told]), expected_SKF, atol=2e-3)
        assert all(bool(s.advice) == (asked_so in (one.advise, again.advise)) for s in told)


def test_features_are_told_to_nobody_who_does_not_read_them():
    one, test = advisor(), asked(2, Split.TEST)
    assert one.tell(test) == tuple(test)
    assert [s.features for s in (*one.tell(test), *one.advise(test))] == [None] * 4


def of_thirty_users() -> Advisor:
    vectors = np.random.default_rng(0).normal(size=(24, 4))
    knowledge = rounded(Knowledge.of(CORPUS, seed=0, vectors=vectors, codes=shop.semantic_ids().codes))
    train = [replace(s, user_id=f"u{i % 30}") for i, s in enumerate(asked(300, Split.TRAIN))]
    return fit_advisor(Sample.of(train, knowledge), knowledge, seed=0)


def test_a_third_is_the_logit_with_its_trees_and_a_third_each_network():
    one, test = of_thirty_users(), list(asked(5, Split.TEST))
    test[0] = replace(test[0], candidates=test[0].candidates[:3], scores=(0.0,) * 3, gains=(1, 0, 0), votes=(0.0,) * 3)
    assert one.trees
    assert list(one.networks) == ["prm", "dcn"]
    sample = Sample.of(test, one.knowledge)
    _, matrices = features(test, one.knowledge)
    seen_SK = [n.scores(sample.without(("score", "score_below_first"))) for n in one.networks.values()]
    for s, slate in enumerate(one.advise(test)):
        k = len(slate.candidates)
        bare = [f for f, name in enumerate(sample.names) if not name.startswith("score")]
        grown = one.logit.scores(sample)[s, :k] + np.asarray(one.trees.predict(matrices[s][:, bare]))
        mean_K = sum(said - said.mean() for said in (grown, *(seen[s, :k] for seen in seen_SK))) / 3
        assert slate.advice == pytest.approx(mean_K.tolist(), abs=1e-5)
        assert sum(slate.advice) == pytest.approx(0, abs=1e-5)


def test_training_slates_are_advised_by_one_that_learned_from_other_users():
    """Of two users, in two folds, each is advised as the other's slates alone have it."""
    knowledge = Knowledge.of(CORPUS, seed=0)
    train = [replace(s, user_id=f"u{i % 2}") for i, s in enumerate(asked(20, Split.TRAIN))]
    sample = Sample.of(train, knowledge)
    crossed = cross_advised(sample, knowledge, seed=0, folds=2)
    assert [s.slate_id for s in crossed] == [s.slate_id for s in train]
    of_first = np.array([s.user_id == "u0" for s in train])
    for mine in (of_first, ~of_first):
        said_SK = fit_advisor(sample.at(~mine), knowledge, seed=0).counted(sample.at(mine))
        got = [s.advice for s, own in zip(crossed, mine, strict=True) if own]
        np.testing.assert_allclose(np.array(got), said_SK)
    alone = cross_advised(sample.at(of_first), knowledge, seed=0, folds=2)
    assert {a for s in alone for a in s.advice} == {0.0}  # there is nobody else


def test_few_users_have_no_networks():
    few = [replace(s, user_id=f"u{i % 4}") for i, s in enumerate(asked(30, Split.TRAIN))]
    knowledge = Knowledge.of(CORPUS, seed=0)
    assert fit_advisor(Sample.of(few, knowledge), knowledge, seed=0).networks == {}


def test_saved_and_read_back_it_says_the_same(tmp_path):
    made, test = of_thirty_users(), asked(5, Split.TEST)
    assert made.trees
    assert made.networks
    made.save(tmp_path)
    again = Advisor.load(tmp_path, replace(CORPUS, timelines=()), shop.semantic_ids().codes)
    assert advice_of(again.advise(test)).tolist() == advice_of(made.advise(test)).tolist()
    assert again.trees
    assert again.trees.num_trees() == made.trees.num_trees()
    assert {n: net.rounds for n, net in again.networks.items()} == {n: net.rounds for n, net in made.networks.items()}
    assert again.history == made.history
    assert again.knowledge.counts.everyone.until == 5  # the shop's training events are at seconds 0 to 5


SHAPE = SasrecConfig(dim=8, layers=1, heads=1, max_length=8, epochs=1)


def test_a_sasrec_that_knows_is_followed_and_one_that_does_not_is_not(monkeypatch):
    one = of_thirty_users()
    slates = one.advise(asked(40, Split.VALID))
    sequence = fit_sequences(CORPUS, SHAPE, seed=0, vectors_NT=None)
    guess = np.random.default_rng(0)
    knows = {s.slate_id: np.array(s.gains, float) for s in slates}
    says = {s.slate_id: guess.normal(size=len(s.candidates)) for s in slates}

    def speak(what):
        monkeypatch.setattr(
            Sequences, "scores", lambda _, of: [np.stack([what[s.slate_id], says[s.slate_id]], 1) for s in of]
        )
        return one.hearing(sequence, None, slates).heard

    counted, behind, anyone = speak(knows)
    assert behind > 10 * abs(anyone)  # as sure as a logit of forty slates without ridge can be
    counted, behind, anyone = speak(says)
    assert counted > 1  # what counts say is as sure as before, and more where the shop has one taste
    assert abs(behind + anyone) < counted


def test_what_is_heard_is_the_weighted_sum_of_counts_and_sasrec():
    one, test = of_thirty_users(), list(asked(5, Split.TEST))
    test[0] = replace(test[0], candidates=test[0].candidates[:3], scores=(0.0,) * 3, gains=(1, 0, 0), votes=(0.0,) * 3)
    test[1] = replace(test[1], history_times=tuple(range(len(test[1].history))), time=test[1].time + 400 * DAY)
    sequence = fit_sequences(CORPUS, SHAPE, seed=0, vectors_NT=None)
    both = replace(one, sequence=sequence, heard=(0.5, 2.0, -1.0))
    for before, after, scores_K2 in zip(one.advise(test), both.advise(test), sequence.scores(test), strict=True):
        behind, anyone = (scores_K2 - scores_K2.mean(0)).T
        sum_K = 0.5 * np.array(before.advice) + 2 * behind - anyone
        assert after.advice == pytest.approx(sum_K.tolist(), abs=1e-5)


def test_the_sasrec_is_saved_with_the_advice(tmp_path):
    test = asked(5, Split.TEST)
    sequence = fit_sequences(CORPUS, SHAPE, seed=0, vectors_NT=None)
    made = replace(of_thirty_users(), sequence=sequence, heard=(0.5, 2.0, -1.0))
    made.save(tmp_path)
    again = Advisor.load(tmp_path, replace(CORPUS, timelines=()), shop.semantic_ids().codes)
    assert again.heard == made.heard
    assert advice_of(again.advise(test)).tolist() == advice_of(made.advise(test)).tolist()


def vectors() -> np.ndarray:
    """An item's department in one direction each, and some noise."""
    noise = 0.1 * np.random.default_rng(0).normal(size=(len(CORPUS.items), 12))
    noise[np.arange(len(CORPUS.items)), [int(item.item_id[1]) for item in CORPUS.items]] += 1
    return noise.astype(np.float16).astype(np.float32)


def told_texts() -> Knowledge:
    return Knowledge.of(CORPUS, seed=0, vectors=vectors(), codes=shop.semantic_ids().codes)


@cache
def practised() -> Practised:
    train = asked(30, Split.TRAIN)
    practice = [replace(s, slate_id=f"{s.slate_id}:practice0") for s in train]
    learned = learn_practised(train, practice, told_texts(), seed=0)
    assert learned
    return learned


def test_what_is_practised_is_the_mean_of_the_networks_log_shares():
    test = list(asked(5, Split.TEST))
    test[0] = replace(test[0], candidates=test[0].candidates[:3], scores=(0.0,) * 3, gains=(1, 0, 0), votes=(0.0,) * 3)
    learned, sample = practised(), Sample.of(test, told_texts())
    assert set(learned.networks) == {"prm-0", "prm-1", "din-0", "din-1"}
    past = Past.of(test, CORPUS.row, learned.texts_ND)
    said_SK = np.zeros((5, 4))
    for name, network in learned.networks.items():
        read = sample.without(SCORES)
        scores_SK = network.scores(replace(read, past=past) if name.startswith("din") else read)
        scores_SK[~sample.real_SK] = -np.inf
        said_SK += (scores_SK - np.log(np.exp(scores_SK).sum(1, keepdims=True))) / 4
    for i, n in enumerate((3, 4, 4, 4, 4)):
        expected_K = said_SK[i, :n] - said_SK[i, :n].mean()
        assert learned.scores(sample, CORPUS.row)[i, :n] == pytest.approx(expected_K, abs=1e-4)


def test_practised_networks_learn_the_taste_of_the_shop():
    test = asked(40, Split.TEST)
    said_SK = practised().scores(Sample.of(test, told_texts()), CORPUS.row)
    assert np.mean(said_SK.argmax(1) == [s.target for s in test]) > 0.9  # guessing: 1 / 4


def test_practised_networks_want_five_people_and_texts():
    practice = asked(30, Split.TRAIN)
    assert learn_practised(asked(4, Split.TRAIN), practice, told_texts(), seed=0) is None
    with pytest.raises(ValueError, match="no text vectors"):
        learn_practised(practice, practice, Knowledge.of(CORPUS, seed=0), seed=0)


def test_what_is_practised_is_heard_beside_the_three_and_saved_with_them(tmp_path):
    test = asked(5, Split.TEST)
    one = replace(of_thirty_users(), knowledge=told_texts())
    sequence = fit_sequences(CORPUS, SHAPE, seed=0, vectors_NT=None)
    made = replace(one, sequence=sequence, practised=practised(), heard=(0.5, 2.0, -1.0, 3.0))
    said_SK = practised().scores(Sample.of(test, told_texts()), CORPUS.row)
    for before, after, scores_K2, said_K in zip(
        one.advise(test), made.advise(test), sequence.scores(test), said_SK, strict=True
    ):
        behind, anyone = (scores_K2 - scores_K2.mean(0)).T
        sum_K = 0.5 * np.array(before.advice) + 2 * behind - anyone + 3 * said_K
        assert after.advice == pytest.approx(sum_K.tolist(), abs=1e-4)
    alone = replace(made, sequence=None, heard=(0.5, 3.0))
    for name, whole in (("both", made), ("alone", alone)):
        (tmp_path / name).mkdir()
        whole.save(tmp_path / name)
        again = Advisor.load(tmp_path / name, replace(CORPUS, timelines=()), shop.semantic_ids().codes)
        assert again.heard == whole.heard
        assert advice_of(again.advise(test)).tolist() == advice_of(whole.advise(test)).tolist()


def test_the_slates_that_nobody_learned_from_say_what_each_voice_weighs(monkeypatch):
    one = replace(of_thirty_users(), knowledge=told_texts())
    slates = one.advise(asked(40, Split.VALID))
    gains_SK = np.array([s.gains for s in slates], float)
    monkeypatch.setattr(Practised, "scores", lambda *_: gains_SK - gains_SK.mean(1, keepdims=True))
    counted, knowing = one.hearing(None, practised(), slates).heard
    assert knowing > 10 * abs(counted)


def test_what_an_older_gr2_wrote_is_refused(tmp_path):
    of_thirty_users().save(tmp_path)
    file = tmp_path / "advisor.safetensors"
    tensors = load_file(file)
    save_file({name: t for name, t in tensors.items() if not name.startswith("baskets/")}, file)
    with pytest.raises(UserError, match="older gr2"):
        Advisor.load(tmp_path, CORPUS, shop.semantic_ids().codes)
    about = read_json(tmp_path / "advisor.json")
    write_json(tmp_path / "advisor.json", about | {"sequence": SHAPE.model_dump()})
    save_file(tensors | {"sequence/item.weight": np.zeros((1, 1), np.float32)}, file)  # when there was one alone
    with pytest.raises(UserError, match="older gr2"):
        Advisor.load(tmp_path, CORPUS, shop.semantic_ids().codes)
    save_file(tensors, file)
    write_json(tmp_path / "advisor.json", ["rank"])  # as gr2 wrote it at first
    with pytest.raises(UserError, match="older gr2"):
        Advisor.load(tmp_path, CORPUS, shop.semantic_ids().codes)
    file.unlink()
    with pytest.raises(UserError, match="not there"):
        Advisor.load(tmp_path, CORPUS, shop.semantic_ids().codes)


def test_without_training_slates_nothing_is_advised():
    knowledge = Knowledge.of(CORPUS, seed=0)
    nothing = fit_advisor(Sample.of([], knowledge), knowledge, seed=0)
    assert {a for s in nothing.advise(shop.slates(2, Split.TEST)) for a in s.advice} <= {0.0}


def test_a_great_weight_ranks_by_advice(tmp_path):
    checkpoint = replace(shop.checkpoint(), advice=1e6)
    slates = [replace(s, advice=tuple(map(float, range(len(s.candidates))))) for s in shop.slates(3, Split.TEST)]
    for ranking in rank_in_one_pass(checkpoint, slates, batch_size=2, label=None):
        assert list(ranking.order) == list(range(shop.K))[::-1]
    checkpoint.save(tmp_path)
    assert Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids()).advice == 1e6
