import numpy as np
import pytest

from gr2.artifacts import Corpus
from gr2.baselines import lambdamart
from gr2.baselines.features import Knowledge
from gr2.baselines.simple import rank_incoming, rank_popular
from gr2.errors import UserError
from gr2.evaluate.metrics import recall_at_1
from gr2.types import Item, Slate, Split, Timeline

N = 30
SPLITS = (Split.TRAIN,) * 8 + (Split.VALID, Split.TEST)


def shop(users: int = 120) -> Corpus:
    """After item i everyone takes i + 1."""
    return Corpus(
        items=tuple(Item(item_id=f"i{i}", title=f"film {i}") for i in range(N)),
        timelines=tuple(
            Timeline(
                user_id=f"u{u}",
                item_ids=tuple(f"i{(7 * u + t) % N}" for t in range(10)),
                times=tuple(range(10)),
                splits=SPLITS,
            )
            for u in range(users)
        ),
    )


def slates(corpus: Corpus, split: Split) -> list[Slate]:
    """The next item among five, in random order."""
    rng = np.random.default_rng(0)
    made = []
    for timeline in corpus.timelines:
        for position in [p for p, s in enumerate(timeline.splits) if s is split and p >= 3]:
            history, target = timeline.item_ids[:position], timeline.item_ids[position]
            others = rng.permutation([i.item_id for i in corpus.items if i.item_id not in (*history, target)])[:4]
            candidates = tuple(str(i) for i in rng.permutation([target, *others]))
            made.append(
                Slate(
                    slate_id=f"{timeline.user_id}:{position}",
                    user_id=timeline.user_id,
                    split=split,
                    time=position,
                    history=history,
                    candidates=candidates,
                    scores=(0.0,) * 5,
                    gains=tuple(int(c == target) for c in candidates),
                )
            )
    return made


def test_learns_that_the_next_item_follows() -> None:
    corpus = shop()
    train, valid, test = (slates(corpus, s) for s in Split)
    model = lambdamart.fit(train, valid, Knowledge.of(corpus, seed=0), seed=0)
    assert recall_at_1(test, rank_incoming(test)) < 0.4
    assert recall_at_1(test, lambdamart.rank(model, test)) > 0.95
    assert model.chosen["trees"] >= 1


def test_too_little_to_tune_on_is_the_users_error() -> None:
    corpus = shop(users=4)
    with pytest.raises(UserError, match="LambdaMART"):
        lambdamart.fit(slates(corpus, Split.TRAIN), slates(corpus, Split.VALID), Knowledge.of(corpus, seed=0), seed=0)


def test_popularity_ranks_by_training_events_and_keeps_ties() -> None:
    splits = (Split.TRAIN, Split.TRAIN)
    corpus = Corpus(
        items=tuple(Item(item_id=i, title=i) for i in "abcd"),
        timelines=(
            Timeline(user_id="u", item_ids=("c", "a"), times=(0, 1), splits=splits),
            Timeline(user_id="v", item_ids=("c", "b"), times=(0, 1), splits=splits),
        ),
    )
    one = Slate(
        slate_id="w:0",
        user_id="w",
        split=Split.TEST,
        time=2,
        history=(),
        candidates=("d", "b", "a", "c"),
        scores=(4.0, 3.0, 2.0, 1.0),
        gains=(1, 0, 0, 0),
    )
    assert rank_popular([one], corpus)[0].order == (3, 1, 2, 0)
    assert rank_incoming([one])[0].order == (0, 1, 2, 3)
