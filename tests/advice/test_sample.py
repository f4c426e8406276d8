from dataclasses import replace

import numpy as np
from ranked import shop, slates

from gr2.advice.features import Knowledge, features
from gr2.advice.sample import Sample
from gr2.types import Split

CORPUS = shop(users=8)
KNOWLEDGE = Knowledge.of(CORPUS, seed=0)


def short(slate, k):
    return replace(slate, candidates=slate.candidates[:k], scores=slate.scores[:k], gains=(1, *slate.gains[1:k]))


def test_short_slates_are_padded_behind_with_what_is_not_real():
    made = slates(CORPUS, Split.TRAIN)[:3]
    made[1] = short(made[1], 3)
    sample = Sample.of(made, KNOWLEDGE)
    names, matrices = features(made, KNOWLEDGE)
    assert sample.names == names
    assert sample.real_SK.sum(axis=1).tolist() == [5, 3, 5]
    np.testing.assert_array_equal(sample.x_SKF[1, :3], matrices[1])
    assert not sample.x_SKF[1, 3:].any()
    assert sample.gains_SK[1].tolist() == [*made[1].gains, 0, 0]


def test_a_part_keeps_slates_features_and_gains_together():
    sample = Sample.of(slates(CORPUS, Split.TRAIN), KNOWLEDGE)
    chosen = np.arange(len(sample.slates)) % 3 == 1
    part = sample.at(chosen)
    again = Sample.of(part.slates, KNOWLEDGE)
    np.testing.assert_array_equal(part.x_SKF, again.x_SKF)
    np.testing.assert_array_equal(part.gains_SK, again.gains_SK)


def test_ranked_by_score_without_padding_and_equals_as_they_came():
    made = slates(CORPUS, Split.TRAIN)[:2]
    sample = Sample.of([made[0], short(made[1], 3)], KNOWLEDGE)
    scores = np.array([[0.0, 2, 1, 2, 0], [1, 1, 3, 9, 9]])
    assert [r.order for r in sample.ranked(scores)] == [(1, 3, 2, 0, 4), (2, 0, 1)]
