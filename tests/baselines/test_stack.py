"""SASRecs of rivals and the stack of all legacy rankers: scores are the models', and the logit hears who knows."""

from dataclasses import replace

import numpy as np
import pytest
from ranked import shop, slates

from gr2.advice.conditional_logit import padded
from gr2.advice.past import principal
from gr2.advice.sequence import Sequences
from gr2.baselines.legacy_scores import LegacyScores
from gr2.baselines.sequence import rival_sasrecs
from gr2.baselines.stack import FOLDS, learned, rank_by_folds, stack, voices
from gr2.corpus.ties import training_ties
from gr2.evaluate.metrics import per_slate
from gr2.prompt.gaps import UNKNOWN, gap_numbers
from gr2.retrieve import sasrec
from gr2.retrieve.sasrec import INIT, SasrecConfig
from gr2.types import DAY, Split

CORPUS = shop(users=20)
VALID, TEST = slates(CORPUS, Split.VALID), slates(CORPUS, Split.TEST)
CONFIG = SasrecConfig(dim=8, heads=1, layers=1, max_length=10, epochs=1)
VECTORS = np.random.default_rng(0).normal(size=(len(CORPUS.items), 5))


@pytest.fixture(scope="module")
def second() -> Sequences:
    return rival_sasrecs(CORPUS, CONFIG, seed=3, vectors_NT=VECTORS)


def heard(slates_of_it, **knows: bool) -> LegacyScores:
    """Each voice scores targets 1 and all else 0 where it knows, and all alike where it does not; rows are padded."""
    said = {
        name: [np.array([float(knows.get(name, False) and g > 0) for g in s.gains] + [7.0] * 2) for s in slates_of_it]
        for name in ("covisitation", "sasrec", "anyone", "lambdamart", "dcn", "prm")
    }
    return LegacyScores.of(slates_of_it, said)


def test_the_second_model_is_trained_on_training_events_and_their_gaps_from_numbers_of_its_own(second):
    rows = [[CORPUS.row[i] for i in sequence] for sequence in CORPUS.train_sequences()]
    gaps = [gap_numbers(t.times[: len(known)]) for t, known in zip(CORPUS.timelines, rows, strict=True)]
    ties, start_ND = training_ties(CORPUS.timelines), 2 * INIT * principal(VECTORS, CONFIG.dim)
    shape = CONFIG.model_copy(update={"epochs": 20, "dropout": 0.2})
    assert len(second.models) == 2
    for seed, model in zip((1_003, 11_003), second.models, strict=True):
        again = sasrec.train(rows, len(CORPUS.items), shape, seed, gaps=gaps, ties=ties, start_ND=start_ND)
        assert "gap.weight" in again.state_dict()
        for name, weight in model.state_dict().items():
            assert weight.equal(again.state_dict()[name])


def test_candidates_have_the_models_scores_behind_the_history_and_behind_none(second):
    late = [replace(s, history_times=tuple(range(len(s.history))), time=i * 10 * DAY) for i, s in enumerate(TEST)]
    found = second.scores([*late, *TEST])
    for slate, scores_K2 in zip([*late, *TEST], found, strict=True):
        rows, times = [CORPUS.row[i] for i in slate.history], [*slate.history_times, slate.time]
        gaps = gap_numbers(times) if slate.history_times else [UNKNOWN] * len([*rows, "now"])
        behind = sum(sasrec.scores(model, [rows], [gaps])[0] for model in second.models) / 2
        of_anyone = sum(sasrec.scores(model, [[]])[0] for model in second.models) / 2
        shown = [CORPUS.row[c] for c in slate.candidates]
        np.testing.assert_allclose(scores_K2, np.stack([behind[shown], of_anyone[shown]], 1), atol=1e-5)
    assert not np.allclose(found[5], found[5 + len(TEST)], atol=1e-3)


def test_voices_are_what_each_says_less_its_mean():
    first = replace(VALID[0], advice=tuple(map(float, range(len(VALID[0].candidates)))), votes=())
    said = heard(VALID, prm=True)
    assert learned(said) == ("sasrec", "anyone", "lambdamart", "dcn", "prm")
    (matrix_KV,) = voices([first], said)
    k = len(first.candidates)
    np.testing.assert_allclose(matrix_KV[:, 0], np.arange(k) - (k - 1) / 2)
    assert not matrix_KV[:, 1].any()  # nobody voted
    np.testing.assert_allclose(matrix_KV[:, 2], np.array(first.scores) - np.mean(first.scores))
    np.testing.assert_allclose(matrix_KV[:, 7], np.array(first.gains) - np.mean(first.gains))


def test_who_knows_is_followed_on_other_slates_too():
    fitted = stack(VALID, heard(VALID, dcn=True))
    weights = fitted.record()
    assert weights["lambdamart"] == 0
    assert weights["dcn"] == max(weights.values())
    assert per_slate(TEST, replace(fitted, said=heard(TEST, dcn=True)).rank(TEST))["R@1"].mean() == 1


def test_validation_slates_are_ranked_by_weights_of_other_users(monkeypatch):
    asked = []

    def seen(valid, said, counts_S=None):
        asked.append(({s.user_id for s in valid}, counts_S))
        return stack(valid, said, counts_S)

    monkeypatch.setattr("gr2.baselines.stack.stack", seen)
    counts_S = np.arange(len(VALID), dtype=float)
    rankings = rank_by_folds(VALID, heard(VALID, prm=True), seed=0, counts_S=counts_S)
    assert [r.slate_id for r in rankings] == [s.slate_id for s in VALID]
    assert per_slate(VALID, rankings)["R@1"].mean() == 1
    users = {s.user_id for s in VALID}
    left_out = [users - of for of, _ in asked]
    assert len(asked) == FOLDS
    assert sorted(u for of in left_out for u in of) == sorted(users)
    for of, counts in asked:
        assert counts.tolist() == [c for s, c in zip(VALID, counts_S, strict=True) if s.user_id in of]


def test_one_user_alone_is_ranked_by_their_own_weights():
    alone = [s for s in VALID if s.user_id == VALID[0].user_id]
    assert rank_by_folds(alone, heard(alone, prm=True), seed=0) == stack(alone, heard(alone, prm=True)).rank(alone)


def test_a_slate_that_counts_nothing_is_not_learned_from():
    """The same weights come out where the slates that count nothing are left out; the penalty grows with all."""
    said, counts = heard(VALID, prm=True), np.zeros(len(VALID))
    counts[:5] = 2
    some = stack(VALID, said, counts)
    other = [replace(s, gains=(*s.gains[1:], s.gains[0])) for s in VALID[5:]]
    np.testing.assert_allclose(some.weights, stack([*VALID[:5], *other], said, counts).weights)


def test_shorter_slates_are_padded_behind():
    x_SKV, real_SK = padded([np.ones((2, 3)), np.ones((1, 3))])
    assert x_SKV.sum((1, 2)).tolist() == [6, 3]
    assert real_SK.tolist() == [[True, True], [True, False]]
