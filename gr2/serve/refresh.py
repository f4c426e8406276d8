"""A bundle whose counts are of today: the same model, beside what people took until now. (ours)

The counts behind neighbours' votes and advice age: what sold last week, what goes with what, and everybody's newest
events, which were held out to test the model. They are no weights, so a new log is counted in seconds and nothing
learns. Items that the bundle does not know are left out; they need a new run.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gr2.advice.counts import CrossCounts, count
from gr2.corpus.generic import read_log
from gr2.corpus.splits import Log
from gr2.corpus.ties import settled
from gr2.errors import UserError
from gr2.record import RECORD, digest_folder, new_folder, write_json
from gr2.retrieve.neighbours import remember
from gr2.retrieve.popularity import most_popular
from gr2.serve.ranker import Bundle
from gr2.types import Split, Timeline


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the new counts are of."""

    users: int
    events: int
    left_out: int
    """Events of items that the bundle does not know."""


def refresh(folder: Path, events: Path, out: Path) -> Counted:
    """Read bundle and log, and write the new bundle, whole or not at all. Raises UserError when `out` is there already,
    and where the log cannot be read or is of another shop."""
    with new_folder(out) as aside:
        log, _ = settled(read_log(events, None))  # as the log that the bundle's model learned from
        bundle, counted = refreshed(Bundle.load(folder), log)
        bundle.save(aside)
        source = {"from": str(folder), "events": str(events), **asdict(counted)}
        write_json(aside / RECORD, {"digest": digest_folder(aside), "refreshed": source})
    return counted


def refreshed(bundle: Bundle, log: Log) -> tuple[Bundle, Counted]:
    """The bundle with all events of the log as its training events. Raises UserError when it knows no item of it."""
    known = {user: [(i, time) for i, time in events if i in bundle.items] for user, events in log.items()}
    timelines = tuple(timeline(user, events) for user, events in known.items() if events)
    if not timelines:
        raise UserError("no event of the log is of an item in the bundle's catalogue; give the log of the same shop")
    corpus = replace(bundle.corpus, timelines=timelines)
    n_events = sum(len(t.item_ids) for t in timelines)
    counts = CrossCounts(everyone=count(timelines, corpus.row), without_fold=(), fold_of={})
    new = replace(
        bundle,
        popular=most_popular(corpus, len(bundle.popular)),
        neighbours=remember(corpus),
        advisor=replace(bundle.advisor, knowledge=replace(bundle.advisor.knowledge, counts=counts)),
    )
    left_out = sum(map(len, log.values())) - n_events
    return new, Counted(users=len(timelines), events=n_events, left_out=left_out)


def timeline(user: str, events: Sequence[tuple[str, int]]) -> Timeline:
    """All of it to be counted."""
    return Timeline(
        user_id=user,
        item_ids=tuple(item for item, _ in events),
        times=tuple(time for _, time in events),
        splits=(Split.TRAIN,) * len(events),
    )
