"""How long after the event before it an event comes, as one token a gap. (ours)

Whoever comes back on the same day goes on with what they were doing; whoever comes back after a year does not.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gr2.types import DAY, Split, Timeline

BOUNDS = (DAY, 7 * DAY, 30 * DAY, 182 * DAY)
"""Seconds at which the next longer gap begins."""
GAPS = ("<|same_day|>", "<|same_week|>", "<|same_month|>", "<|half_a_year|>", "<|long_after|>", "<|some_time|>")
"""The tokens, short gaps first; the last is for a gap that nobody knows."""
UNKNOWN = len(BOUNDS) + 1
BLIND = 0.1
"""Share of windows whose gaps are all unknown, where a model learns from them that is to be asked without times."""
Window = Sequence[tuple[int, int]]
"""Events in a row: the item, and the number of the gap before it."""


def gap_numbers(times: Sequence[int]) -> list[int]:
    """Place in GAPS of each event's token, from its time in seconds; UNKNOWN for the first, which has none before."""
    later = [bisect_right(BOUNDS, then - before) for before, then in pairwise(times)]
    return [UNKNOWN, *later] if times else []


def gaps_around(times: Sequence[int], events: int) -> list[int]:
    """Their places in GAPS before each of so many events, and behind them. `times`: of the events and of now; empty
    where they are not known."""
    return gap_numbers(times) or [UNKNOWN] * (events + 1)


def gaps_told(times: Sequence[int], events: int) -> list[str]:
    """The tokens of `gaps_around`."""
    return [GAPS[number] for number in gaps_around(times, events)]


def events_with_gaps(timeline: Timeline, row: Mapping[str, int]) -> Window:
    """Row and gap number of each training event."""
    known = [at for at, split in enumerate(timeline.splits) if split is Split.TRAIN]
    gaps = gap_numbers([timeline.times[at] for at in known])
    return [(row[timeline.item_ids[at]], gap) for at, gap in zip(known, gaps, strict=True)]
