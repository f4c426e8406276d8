import shop
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.reward.conditional import conditional_reward
from gr2.rl.shown import as_it_came, random_places, shown_as
from gr2.types import Answer, AnswerStatus, Split

SLATE = shop.all_slates(1, 1).split(Split.TRAIN)[0]


@settings(deadline=None)
@given(st.permutations(range(shop.K)))
def test_what_names_the_same_items_earns_the_same(order):
    """An answer about the shown slate, brought back to the incoming places, ranks the same items."""
    places = random_places(SLATE, seed=3)
    shown = shown_as(SLATE, places)
    answer = Answer(status=AnswerStatus.VALID, order=tuple(order), thought="")
    back = as_it_came(answer, places)
    assert [shown.candidates[c] for c in answer.order] == [SLATE.candidates[c] for c in back.order]
    assert [shown.gains[c] for c in answer.order] == [SLATE.gains[c] for c in back.order]
    assert conditional_reward(back, SLATE).rank == (SLATE.target - back.order.index(SLATE.target)) / shop.K


def test_places_are_a_function_of_seed_and_slate():
    assert random_places(SLATE, seed=3) == random_places(SLATE, seed=3)
    many = {random_places(s, seed) for s in shop.all_slates(30, 1).split(Split.TRAIN) for seed in (0, 1)}
    assert len(many) > 10
    assert all(sorted(places) == list(range(shop.K)) for places in many)
