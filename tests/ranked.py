"""Made-up input for the legacy re-rankers: a shop where the next item follows, and bare features with known answers."""

import numpy as np

from gr2.advice.sample import Sample
from gr2.artifacts import Corpus
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
            made.append(slate(f"{timeline.user_id}:{position}", split, history, candidates, candidates.index(target)))
    return made


def slate(slate_id: str, split: Split, history: tuple[str, ...], candidates: tuple[str, ...], target: int) -> Slate:
    """The user and the time are read from `user:position`."""
    user, position = slate_id.split(":")
    k = len(candidates)
    return Slate(
        slate_id=slate_id,
        user_id=user,
        split=split,
        time=int(position),
        history=history,
        candidates=candidates,
        scores=(0.0,) * k,
        gains=tuple(int(c == target) for c in range(k)),
    )


def sample(x_SKF: np.ndarray, targets_S: np.ndarray) -> Sample:
    """Slates of one length with these features."""
    s, k, f = x_SKF.shape
    letters = tuple("abcdefghij"[:k])
    return Sample(
        slates=tuple(slate(f"u{i}:0", Split.TRAIN, (), letters, int(t)) for i, t in enumerate(targets_S)),
        names=[f"f{i}" for i in range(f)],
        x_SKF=x_SKF.astype(np.float32),
        gains_SK=(np.arange(k) == targets_S[:, None]).astype(np.int64),
        real_SK=np.ones((s, k), dtype=bool),
        weights_S=np.ones(s),
    )


def products(n: int, seed: int) -> Sample:
    """The target has the largest product of its two features; neither alone says anything."""
    x_SKF = np.random.default_rng(seed).normal(size=(n, 5, 2))
    return sample(x_SKF, x_SKF.prod(axis=2).argmax(axis=1))


def odd_ones(n: int, seed: int) -> Sample:
    """One feature, +1 or -1: four candidates share it, the target has the other. Both signs are as frequent."""
    rng = np.random.default_rng(seed)
    targets_S = rng.integers(5, size=n)
    x_SK = rng.choice([-1, 1], size=n)[:, None] * np.where(np.arange(5) == targets_S[:, None], -1, 1)
    return sample(x_SK[:, :, None], targets_S)


def recall(of: Sample, scores_SK: np.ndarray) -> float:
    """Share of slates whose target has the highest score."""
    return float(np.take_along_axis(of.gains_SK, scores_SK.argmax(axis=1)[:, None], axis=1).mean())
