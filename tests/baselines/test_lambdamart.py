import numpy as np
from ranked import odd_ones, products, recall, shop, slates

from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.baselines import lambdamart
from gr2.baselines.legacy_scores import LegacyScores
from gr2.baselines.simple import rank_incoming
from gr2.baselines.tuning import Parts, tune
from gr2.evaluate.metrics import recall_at_1
from gr2.types import Split

POINT = lambdamart.GRID[0]


def test_learns_that_the_next_item_follows():
    corpus = shop()
    train, valid, test = (slates(corpus, s) for s in Split)
    knowledge = Knowledge.of(corpus, seed=0)
    tuned = tune(lambdamart.METHOD, Parts.of(train, valid, knowledge, seed=0), seed=0)
    assert recall_at_1(test, rank_incoming(test)) < 0.4
    said = LegacyScores.of(test, {"lambdamart": tuned.fitted.scores(Sample.of(test, knowledge))})
    assert recall_at_1(test, said.rank("lambdamart", test)) > 0.95
    assert tuned.chosen.rounds >= 1


def test_a_number_of_trees_is_that_number():
    train = products(300, seed=0)
    fitted = lambdamart.fit(train, POINT, 0, 7)
    assert fitted.rounds == 7
    np.testing.assert_array_equal(fitted.scores(train), lambdamart.fit(train, POINT, 0, 7).scores(train))


def test_a_candidate_is_scored_alone():
    """So the odd one out of a list is beyond it, as it is beyond DCN-v2."""
    test = odd_ones(400, seed=2)
    fitted = lambdamart.fit(odd_ones(1000, seed=0), POINT, 0, odd_ones(200, seed=1))
    assert recall(test, fitted.scores(test)) < 0.6
