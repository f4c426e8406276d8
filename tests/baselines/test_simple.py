import pytest
from ranked import slate

from gr2.advice.counts import cross_count
from gr2.advice.features import Knowledge
from gr2.artifacts import Corpus
from gr2.baselines.simple import covisited, rank_incoming, rank_popular
from gr2.types import Item, Split, Timeline

CORPUS = Corpus(
    items=tuple(Item(item_id=i, title=i) for i in "abcd"),
    timelines=tuple(
        Timeline(user_id=f"u{n}", item_ids=tuple(items), times=(0, 1, 2), splits=(Split.TRAIN,) * 3)
        for n, items in enumerate(("cad", "cba", "dcb"))
    ),
)
KNOWLEDGE = Knowledge(corpus=CORPUS, counts=cross_count(CORPUS, {"u0": 0, "u1": 1, "u2": 1}))


def test_popularity_ranks_by_training_events_and_keeps_ties():
    one = slate("w:3", Split.TEST, (), tuple("dbac"), 0)
    # c comes three times, every other one twice
    assert rank_popular([one], CORPUS)[0].order == (3, 0, 1, 2)
    assert rank_incoming([one])[0].order == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("split", "user", "history", "counts"),
    [
        # users with a and b: u1; a and d: u0; a and c: u0 u1
        (Split.TEST, "w", "a", [1, 1, 2]),
        # b and d: u2; b and c: u1 u2. Summed over a and b: d 1 + 1, c 2 + 2
        (Split.TEST, "w", "ab", [2, 4]),
        (Split.TEST, "w", "ba", [2, 4]),
        # outside fold 1 there is u0 alone: no b, d and c once
        (Split.TRAIN, "u1", "a", [0, 1, 1]),
        # outside fold 0 are u1 and u2: b and c once, no d
        (Split.TRAIN, "u0", "a", [1, 0, 1]),
        (Split.TEST, "w", "", [0, 0, 0]),
    ],
)
def test_covisitation_by_hand(split, user, history, counts):
    candidates = tuple(c for c in "bdc" if c not in history)
    one = slate(f"{user}:{len(history)}", split, tuple(history), candidates, 0)
    assert covisited([one], KNOWLEDGE)[0].tolist() == counts
