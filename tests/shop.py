"""A made-up shop with a known taste: every user keeps to one department, so the next item is always of that department.

24 items in 6 departments of 4; the first code of an id is the department, the second the shelf. A slate holds one
candidate of the user's department, at a random place, and it is the target: the best possible R@1 is 1, guessing
gives 1/K.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.lm.checkpoint import Checkpoint, assemble
from gr2.lm.item_head import ItemHead, attach
from gr2.lm.nano import NanoConfig, new_model, train_tokenizer
from gr2.lm.vocabulary import grow
from gr2.prompt.render import THINK
from gr2.prompt.render import advised as in_advised_order
from gr2.record import StageFolder
from gr2.teach.rationale import choice
from gr2.types import Item, Slate, Split, Timeline, Trace

DEPARTMENTS, SHELVES, K = 6, 4, 4
NANO = NanoConfig(width=32, layers=2, head_width=16, feed=64, words=300, context=256)


def item_id(department: int, shelf: int) -> str:
    return f"i{department}{shelf}"


def items() -> tuple[Item, ...]:
    return tuple(
        Item(item_id=item_id(d, s), title=f"Thing {d} {s}", categories=("shop", f"department {d}"), year=1990 + s)
        for d in range(DEPARTMENTS)
        for s in range(SHELVES)
    )


def semantic_ids() -> SemanticIds:
    catalogue = items()
    return SemanticIds(
        item_ids=tuple(i.item_id for i in catalogue),
        codes=np.array([[d, s] for d in range(DEPARTMENTS) for s in range(SHELVES)]),
        codebook_sizes=(DEPARTMENTS, SHELVES),
        codebooks=(np.eye(DEPARTMENTS, 8, dtype=np.float32), np.eye(SHELVES, 8, dtype=np.float32)),
    )


def corpus(users: int = 30, seed: int = 0) -> Corpus:
    rng = np.random.default_rng(seed)
    timelines = []
    for u in range(users):
        shelves = rng.integers(0, SHELVES, 8)
        timelines.append(
            Timeline(
                user_id=f"u{u}",
                item_ids=tuple(item_id(u % DEPARTMENTS, int(s)) for s in shelves),
                times=tuple(range(8)),
                splits=(*[Split.TRAIN] * 6, Split.VALID, Split.TEST),
            )
        )
    return Corpus(items=items(), timelines=tuple(timelines))


def slates(n: int, split: Split, seed: int = 0) -> list[Slate]:
    rng = np.random.default_rng((seed, list(Split).index(split)))
    made = []
    for i in range(n):
        departments = rng.permutation(DEPARTMENTS)[:K]
        taste = int(departments[0])
        order = rng.permutation(K)
        made.append(
            Slate(
                slate_id=f"{split}:{i}",
                user_id=f"u{i}",
                split=split,
                time=i,
                history=tuple(item_id(taste, int(s)) for s in rng.integers(0, SHELVES, 3)),
                candidates=tuple(item_id(int(departments[c]), int(rng.integers(SHELVES))) for c in order),
                scores=tuple(float(K - r) for r in range(K)),
                gains=tuple(int(c == 0) for c in order),
            )
        )
    return made


def all_slates(n_train: int, n_valid: int) -> Slates:
    return Slates(slates=(*slates(n_train, Split.TRAIN), *slates(n_valid, Split.VALID)))


def work(folder: Path) -> StageFolder:
    """A stage's folder, without a record when it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    return StageFolder(path=folder, resumed=False)


def advised(slates: Slates) -> Slates:
    """With advice that is for the target in nine slates of ten, and otherwise for anyone."""
    rng = np.random.default_rng(0)

    def advice(slate: Slate) -> tuple[float, ...]:
        said_K = rng.normal(size=K)
        said_K[slate.target] += 10.0 * (rng.random() < 0.9)
        return tuple(said_K.tolist())

    return Slates(slates=tuple(replace(s, advice=advice(s)) for s in slates.slates))


def oracle(slate: Slate) -> Trace:
    """Names the candidate of the user's department, which is the target; then the others as the advice has them, or as
    they came in."""
    order = (slate.target, *(c for c in in_advised_order(slate) or range(K) if c != slate.target))
    return Trace(
        slate_id=slate.slate_id,
        thought=f"likes shop {choice(order)}",
        order=order,
        evidence="genre",
        attempt=0,
        kept=True,
        reason="oracle",
    )


def clone(checkpoint: Checkpoint) -> Checkpoint:
    """The same with a model of its own."""
    return checkpoint.with_model(copy.deepcopy(checkpoint.model))


def checkpoint_with_head(seed: int = 0) -> Checkpoint:
    """The same with an item head of random vectors, which stay as they are."""
    made = checkpoint(seed)
    think = made.tokenizer.convert_tokens_to_ids(THINK)
    torch.manual_seed(seed)
    head = ItemHead(torch.randn(DEPARTMENTS * SHELVES, NANO.width)).requires_grad_(False)
    attach(made.model, head, made.id_tokens.spelled, think)
    return made


def checkpoint(seed: int = 0) -> Checkpoint:
    """A nano model with random weights that can be asked about the shop."""
    shop, ids = corpus(), semantic_ids()
    tokenizer = train_tokenizer([i.text for i in shop.items], NANO.words)
    grow(tokenizer, ids, markers=False)
    model = new_model(NANO, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, seed)
    return assemble(model.eval(), tokenizer, shop, ids, template="nano", markers=False, history=5)


def walks(users: int = 40, seed: int = 0) -> dict[str, list[str]]:
    """user -> every shelf of three neighbouring departments, one department after the other: no item comes twice."""
    rng = np.random.default_rng(seed)
    return {
        f"u{u}": [item_id((u + d) % DEPARTMENTS, int(s)) for d in range(3) for s in rng.permutation(SHELVES)]
        for u in range(users)
    }


def write(folder: Path) -> None:
    """items.jsonl and events.jsonl, as the generic reader wants them; the events are the walks, of
    users whose ids rich would read as markup."""
    rows = [{"item_id": i.item_id, "title": i.title, "categories": i.categories, "year": i.year} for i in items()]
    events = [{"user_id": f"[/{user}]", "items": walk} for user, walk in walks().items()]
    for name, lines in (("items", rows), ("events", events)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
