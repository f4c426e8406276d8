"""`gr2 new`: read somebody's catalogue and log, and write the config that their first run starts from. (ours)

What depends on the data's size is worked out. All else was chosen by validation on data of one of two kinds
(docs/log.md): people with many events, as MovieLens', or with few, as Amazon's.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from gr2.config import NAME
from gr2.corpus.generic import UNTITLED, read_items, read_log
from gr2.corpus.ties import Ties, settled
from gr2.errors import UserError
from gr2.stages.s01_corpus import Config, build_corpus
from gr2.types import Split

MANY = 30
"""Events of the person in the middle from which on people have many: 65 on MovieLens, 6 on Amazon."""
CODES, ROOM = 64, 2
"""Codes a level, as the shipped base knows them; so many ids an item, at least, for near items to be near in ids."""
PASSES, HISTORIES, MOST_STEPS = 10, 320, 20_000
"""Of mid-training over all training events; events a step; and the most steps whatever the size."""
PRACTICE = 50
"""Length of the lists that practice slates come from, where people have few events and there are more items."""
MINUTES = {True: (12.0, 100_000), False: (85.0, 198_502)}
"""Minutes of a run on two cores, and its events: MovieLens where people have many, Amazon Beauty where few."""
TRIED = 300_000
"""Events of the largest data that were run."""

HEAD = """# {events:,} events of {users:,} people with {items:,} items; the person in the middle has {middle:g} events.
# Written by `gr2 new`, as {like}; every other key has its default, which {run}/config.toml will tell with its meaning.

[corpus]
reader = "generic"
items = {items_path}
events = {events_path}
n_test = {held_out}
n_valid = {held_out}

[sids]
codebook_sizes = {codebooks}
engagement_weight = 1.0
"""

MANY_EVENTS = """
[midtrain]
history = 20

[midtrain.mix]
preference = 0.40
slate = 0.47
caption = 0.05
persona = 0.05
language = 0.03

[midtrain.fit]
steps = 1000
batch_size = 16
learning_rate = 5e-3
dropout = 0.15

[slates]
k = 10
"""

FEW_EVENTS = """
# Every training event {passes:.2g} times as history, which also gives each item a vector of its own; and how long after
# the one before it each event came.
[midtrain]
history = 20
histories = {histories}
gaps = true

[midtrain.mix]
preference = 0.0
slate = 0.75
caption = 0.10
persona = 0.10
language = 0.05

[midtrain.fit]
steps = {steps}
batch_size = 8
learning_rate = 3e-3
dropout = 0.4

[slates]
k = 10
{practice}folds = 3
min_history = 1
sasrec = {{ dropout = 0.4, epochs = 12, batch_size = 16, learning_rate = 3e-3 }}
"""

TAIL = """
[traces]
cited_history = 20

[sft]
direct_share = 0.35
lambda_reasoning = 0.9

[sft.fit]
steps = 1000
batch_size = 32
learning_rate = 2e-3
dropout = 0.1

[rl]
steps = 80
truth = 2.0
learning_rate = 5e-5

[direct]
thoughts = 4000

[direct.fit]
steps = 300
batch_size = 32
learning_rate = 1e-3
dropout = 0.1
"""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What somebody's data are like."""

    items: int
    untitled: int
    never_taken: int
    users: int
    tested: int
    """Users with events enough to hold some out."""
    events: int
    train_events: int
    middle: float
    """Events of the user in the middle."""
    ties: Ties
    """Events at the time of the one before."""

    @property
    def many(self) -> bool:
        """Whether people have many events."""
        return self.middle >= MANY

    @property
    def steps(self) -> int:
        """Of mid-training, where people have few events."""
        return min(MOST_STEPS, max(100, round(PASSES * self.train_events / HISTORIES / 100) * 100))

    @property
    def codebooks(self) -> list[int]:
        """Levels of codes, two at least, that hold the catalogue with room."""
        levels = 2
        while CODES**levels < ROOM * self.items:
            levels += 1
        return [CODES] * levels

    @property
    def minutes(self) -> float:
        """About what a run takes on two cores."""
        took, of_events = MINUTES[self.many]
        return took * max(1.0, self.events / of_events)


def look(items: Path, events: Path) -> Look:
    """Raises UserError on what the corpus stage would not take either."""
    catalogue = read_items(items)
    log, ties = settled(read_log(events, catalogue))
    middle = float(median(map(len, log.values()))) if log else 0.0
    n = held_out_of(middle)
    corpus = build_corpus(catalogue, log, Config(reader="generic", items=items, events=events, n_test=n, n_valid=n))
    splits = [split for t in corpus.timelines for split in t.splits]
    return Look(
        items=len(catalogue),
        untitled=sum(item.title == UNTITLED for item in catalogue),
        never_taken=len({item.item_id for item in catalogue} - {i for t in corpus.timelines for i in t.item_ids}),
        users=len(corpus.timelines),
        tested=sum(Split.TEST in t.splits for t in corpus.timelines),
        events=len(splits),
        train_events=splits.count(Split.TRAIN),
        middle=middle,
        ties=ties,
    )


def held_out_of(middle: float) -> int:
    """Test events a user, and as many for validation."""
    return 5 if middle >= MANY else 1


def config_text(seen: Look, name: str, items: Path, events: Path) -> str:
    """The TOML file."""
    head = HEAD.format(
        events=seen.events,
        users=seen.users,
        items=seen.items,
        middle=seen.middle,
        like="the demo's MovieLens" if seen.many else "Amazon Beauty",
        run=f"runs/{name}",
        items_path=json.dumps(str(items)),
        events_path=json.dumps(str(events)),
        held_out=held_out_of(seen.middle),
        codebooks=seen.codebooks,
    )
    passes = seen.steps * HISTORIES / seen.train_events
    practice = f"practice = {PRACTICE}\n" if seen.items > PRACTICE else ""
    few = FEW_EVENTS.format(steps=seen.steps, histories=HISTORIES, passes=passes, practice=practice)
    body = MANY_EVENTS if seen.many else few
    return head + body + TAIL


def start(config: Path, items: Path, events: Path) -> Look:
    """Write the config. Raises UserError when there is one, or when the data cannot be read."""
    if config.suffix != ".toml":
        raise UserError(f"{config}: a config ends in .toml; call it {config.with_suffix('.toml')}")
    if not re.fullmatch(NAME, config.stem):
        raise UserError(f"{config}: {config.stem!r} names the run's folder; use letters, digits, ., _ and -")
    if config.exists():
        raise UserError(f"{config}: is there already; name another, or delete it")
    seen = look(items, events)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(config_text(seen, config.stem, items, events), encoding="utf-8")
    return seen


def said(seen: Look, config: Path) -> list[str]:
    """What was seen and done, line by line."""
    kind = "many events" if seen.many else "few events"
    ties = f"ties    {seen.ties.tied:,} events at the time of the one before, sorted by item: drawn anew (docs/ties.md)"
    lines = [
        f"items   {seen.items:,}; {seen.untitled:,} without a title, {seen.never_taken:,} that nobody took",
        f"people  {seen.users:,}; {seen.tested:,} have events enough to be tested on",
        f"events  {seen.events:,}; the person in the middle has {seen.middle:g}",
        *([ties] if seen.ties.of_the_file else []),
        f"wrote {config}: for people with {kind}, ids of {len(seen.codebooks)} codes",
    ]
    if seen.events > TRIED:
        lines.append(f"more than the {TRIED:,} events that GR2 was run on so far; memory and time are guesses")
    return [*lines, f"about {seen.minutes:,.0f} minutes on two cores: gr2 run {config}"]
