from dataclasses import replace

import numpy as np
import pytest
from ranked import shop, slates

from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.baselines import dcn, lambdamart, prm
from gr2.baselines.tuning import POINTS, Fitted, Method, Parts, practise, tune
from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate
from gr2.retrieve.folds import HELD_OUT
from gr2.types import Split

CORPUS = shop(users=20)
KNOWLEDGE = Knowledge.of(CORPUS, seed=0)
TRAIN, VALID = slates(CORPUS, Split.TRAIN), slates(CORPUS, Split.VALID)


@pytest.fixture(scope="module")
def parts() -> Parts:
    return Parts.of(TRAIN, VALID, KNOWLEDGE, seed=0)


@pytest.mark.parametrize("method", [lambdamart.METHOD, dcn.METHOD, prm.METHOD], ids=lambda m: m.name)
def test_every_method_has_the_same_budget(method):
    assert len({tuple(point.items()) for point in method.grid}) == len(method.grid) == POINTS


def test_users_are_held_out_whole(parts):
    inside, outside = ({s.user_id for s in part.slates} for part in (parts.inside, parts.outside))
    assert len(outside) == 20 // HELD_OUT
    assert inside.isdisjoint(outside)
    assert len(parts.inside.slates) + len(parts.outside.slates) == len(parts.train.slates) == len(TRAIN)


def test_the_point_that_is_best_on_validation_slates_is_fitted_on_all_training_slates(parts):
    fits = []

    def fit(train: Sample, point, seed: int, stop: Sample | int) -> Fitted:
        """Scores by one feature; says 3 rounds for the second feature, else 1."""
        fits.append((train, stop))
        column = parts.train.names.index(point["feature"])
        return Fitted(rounds=1 + 2 * (column == 1), scores=lambda sample: sample.x_SKF[:, :, column])

    grid = tuple({"feature": name} for name in ("rank", "after1_last1", "popularity"))
    tuned = tune(Method(name="one feature", grid=grid, fit=fit), parts, seed=0)
    by_hand = [
        per_slate(VALID, parts.valid.ranked(parts.valid.x_SKF[:, :, parts.train.names.index(p["feature"])]))
        for p in grid
    ]
    assert [t.recall_at_1 for t in tuned.tries] == [v["R@1"].mean() for v in by_hand]
    assert [t.ndcg_at_3 for t in tuned.tries] == [v["N@3"].mean() for v in by_hand]
    assert tuned.chosen.value == max((v["R@1"].mean() + v["N@3"].mean()) / 2 for v in by_hand)
    assert tuned.chosen.point == {"feature": "after1_last1"}
    assert all(train is parts.inside and stop is parts.outside for train, stop in fits[:-1])
    assert fits[-1] == (parts.train, tuned.chosen.rounds)
    assert tuned.record()["chosen"] == tuned.record()["tried"][1]


def with_practice() -> Parts:
    practice = [replace(s, slate_id=f"{s.slate_id}:practice0") for s in TRAIN[::2]]
    return Parts.of(TRAIN, VALID, KNOWLEDGE, seed=0, practice=practice)


@pytest.mark.parametrize("helps", [True, False])
def test_the_best_point_is_tried_with_practice_slates_and_kept_where_that_is_better(helps):
    made, fits = with_practice(), []

    def fit(train: Sample, point, seed: int, stop: Sample | int) -> Fitted:
        """Scores by one feature where practice slates are there as they help, or the other way about; else alike."""
        fits.append((train, point["feature"], stop))
        practised = any("practice" in s.slate_id for s in train.slates)
        column, knows = train.names.index(point["feature"]), practised == helps
        return Fitted(rounds=2, scores=lambda sample: knows * sample.x_SKF[:, :, column])

    grid = ({"feature": "after1_last1"}, {"feature": "popularity"})
    method = Method(name="one feature", grid=grid, fit=fit)
    plain = tune(method, made, seed=0)
    assert [train for train, _, _ in fits] == [made.inside, made.inside, made.train]
    both = practise(method, made, plain, seed=0)
    assert both
    assert fits[3] == (made.practised_inside, plain.chosen.point["feature"], made.outside)
    assert both.tries[0] == plain.chosen
    assert [t.practised for t in both.tries] == [False, True]
    assert both.chosen.practised is helps
    assert fits[4:] == ([(made.practised, both.chosen.point["feature"], 2)] if helps else [])
    assert (both.fitted is plain.fitted) is not helps


def test_without_practice_slates_nobody_practises(parts):
    plain = tune(lambdamart.METHOD, parts, seed=0)
    assert practise(lambdamart.METHOD, parts, plain, seed=0) is None


def test_practice_slates_of_held_out_users_are_held_out():
    made = with_practice()
    assert made.practised
    assert made.practised_inside
    assert len(made.practised.slates) == len(TRAIN) + len(TRAIN[::2])
    outside = {s.user_id for s in made.outside.slates}
    assert outside.isdisjoint(s.user_id for s in made.practised_inside.slates)
    left = [s for s in made.practised.slates if s.user_id not in outside]
    assert list(made.practised_inside.slates) == left
    assert not any("practice" in s.slate_id for s in (*made.outside.slates, *made.valid.slates))


def test_nothing_depends_on_test_or_validation_events(parts):
    """Other items in the held-out part of every timeline: the same features, so the same fits and choices."""
    changed = replace(
        CORPUS,
        timelines=tuple(replace(t, item_ids=(*t.item_ids[:8], "i0", "i1")) for t in CORPUS.timelines),
    )
    other = Parts.of(TRAIN, VALID, Knowledge.of(changed, seed=0), seed=0)
    np.testing.assert_array_equal(other.train.x_SKF, parts.train.x_SKF)
    np.testing.assert_array_equal(other.valid.x_SKF, parts.valid.x_SKF)


def test_too_little_to_tune_on_is_the_users_error():
    few = shop(users=4)
    with pytest.raises(UserError, match="4 users with training slates and 4 validation slates"):
        Parts.of(slates(few, Split.TRAIN), slates(few, Split.VALID), Knowledge.of(few, seed=0), seed=0)
