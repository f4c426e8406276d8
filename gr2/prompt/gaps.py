"""How long after the event before it an event comes, as one token a gap. (ours)

Whoever comes back on the same day goes on with what they were doing; whoever comes back after a year does not. On
Beauty nothing else tells as much about who is taken next (docs/log.md).
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from gr2.types import DAY

BOUNDS = (DAY, 7 * DAY, 30 * DAY, 182 * DAY)
"""Seconds at which the next longer gap begins."""
GAPS = ("<|same_day|>", "<|same_week|>", "<|same_month|>", "<|half_a_year|>", "<|long_after|>", "<|some_time|>")
"""The tokens, short gaps first; the last is for a gap that nobody knows."""
UNKNOWN = len(BOUNDS) + 1


def gap_numbers(times: Sequence[int]) -> list[int]:
    """Place in GAPS of each event's token, from its time in seconds; UNKNOWN for the first, which has none before."""
    later = [bisect_right(BOUNDS, then - before) for before, then in pairwise(times)]
    return [UNKNOWN, *later] if times else []


def gaps_told(times: Sequence[int], events: int) -> list[str]:
    """The tokens before each of so many events, and behind them. `times`: of the events and of now; empty where they
    are not known."""
    return [GAPS[number] for number in gap_numbers(times) or [UNKNOWN] * (events + 1)]
