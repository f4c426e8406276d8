"""A made-up cinema: four chains of six films; a viewer follows one chain, with a detour now and then."""

from functools import cache
from pathlib import Path

import numpy as np

from gr2.artifacts import Corpus, SemanticIds, Slates, save_text_vectors
from gr2.record import stage_folder
from gr2.types import Item, Slate, Split, Timeline

GENRES = ("Comedy", "Drama", "Horror", "Western")


def timeline(user: str, films: str, held_out: int = 0, start: int = 0) -> Timeline:
    """`films` are item ids, one letter each; the last `held_out` are validation events. One event a minute."""
    n = len(films)
    return Timeline(
        user_id=user,
        item_ids=tuple(films),
        times=tuple(start + 60 * i for i in range(n)),
        splits=tuple(Split.VALID if i >= n - held_out else Split.TRAIN for i in range(n)),
    )


def slate(user: str, history: str, candidates: str, target: int, time: int = 0, split: Split = Split.TRAIN) -> Slate:
    """`history` (oldest first) and `candidates` are item ids, one letter each; scores fall by 1 a place."""
    return Slate(
        slate_id=f"{user}:{len(history)}",
        user_id=user,
        split=split,
        time=time,
        history=tuple(history),
        candidates=tuple(candidates),
        scores=tuple(-float(i) for i in range(len(candidates))),
        gains=tuple(int(i == target) for i in range(len(candidates))),
    )


def _viewer(rng: np.random.Generator, user: int) -> Timeline:
    at, films = int(rng.integers(24)), []
    for _ in range(12):
        chain, link = divmod(at, 6)
        films.append(chr(ord("a") + at))
        at = 6 * chain + (link + 1) % 6 if rng.random() < 0.8 else int(rng.integers(24))
    splits = (Split.TRAIN,) * 8 + (Split.VALID,) * 2 + (Split.TEST,) * 2
    times = tuple(int(t) for t in 1000 * user + 60 * np.arange(12))
    return Timeline(user_id=f"u{user}", item_ids=tuple(films), times=times, splits=splits)


def _slates(rng: np.random.Generator, viewer: Timeline) -> list[Slate]:
    slates = []
    for position in range(2, 12):
        target = viewer.item_ids[position]
        others = [chr(ord("a") + int(i)) for i in rng.permutation(24) if chr(ord("a") + int(i)) != target][:5]
        candidates = [others[i - 1] if i else target for i in rng.permutation(6)]
        slates.append(
            slate(
                viewer.user_id,
                "".join(viewer.item_ids[:position]),
                "".join(candidates),
                candidates.index(target),
                time=viewer.times[position],
                split=viewer.splits[position],
            )
        )
    return slates


@cache
def cinema() -> tuple[Corpus, Slates]:
    rng = np.random.default_rng(0)
    items = tuple(
        Item(
            item_id=chr(ord("a") + i),
            title=f"Film {chr(ord('a') + i)}",
            categories=(GENRES[i // 6],),
            year=1950 + 3 * i,
        )
        for i in range(24)
    )
    viewers = tuple(_viewer(rng, user) for user in range(60))
    slates = tuple(s for viewer in viewers for s in _slates(rng, viewer))
    return Corpus(items=items, timelines=viewers), Slates(slates=slates)


def write_run(run: Path) -> None:
    """The cinema as stages 1, 2 and 4 write it; an item's text and codes tell its chain and its place there."""
    corpus, slates = cinema()
    codes = np.array([divmod(at, 6) for at in range(24)])
    ids = SemanticIds(
        item_ids=tuple(i.item_id for i in corpus.items),
        codes=codes,
        codebook_sizes=(4, 6),
        codebooks=tuple(np.eye(size, dtype=np.float32) for size in (4, 6)),
    )
    for name, artifact in {"01_corpus": corpus, "02_sids": ids, "04_slates": slates}.items():
        with stage_folder(run / name, {}, {}) as work:
            artifact.save(work.path)
            if name == "02_sids":
                save_text_vectors(np.eye(4, dtype=np.float32)[codes[:, 0]], work.path)
