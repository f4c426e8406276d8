"""What short contexts save: serving latency, training time, and how often the cache knows the answer. (ours)"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from gr2.compress.context import Compressor, key
from gr2.errors import UserError
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.rank import rank_in_one_pass, scores_at_once
from gr2.stages.s10_direct import policy_loss
from gr2.types import Slate

LONG = 60
"""Events from which on a history is long."""
TIMED = 60
"""Slates whose latency is measured, one at a time."""
STEP, STEPS, ROLLOUTS = 32, 3, 32
"""Slates of a training step, steps timed, and rankings drawn a slate."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Processor time on one thread, which other work on the machine does not touch, and the cache."""

    slates: int
    """Long histories whose latency was measured, one at a time."""
    whole_ms: float
    """Median time to rank one slate with its whole context."""
    miss_ms: float
    """The same with a context that is compressed first."""
    hit_ms: float
    """The same with a context from the cache."""
    whole_step_s: float
    """Median time of one step of 10_direct, forward and backward, on STEP such slates with whole contexts."""
    short_step_s: float
    """The same from the cache."""
    cached: int
    """Contexts in the stage's cache."""
    asked: int
    """Test slates."""
    hits: int
    """Of them, found there."""


def costs(ranker: Checkpoint, compressor: Compressor, slates: Sequence[Slate]) -> Costs:
    """`slates` hold the whole history, `ranker` shows it, and `compressor` has the stage's cache.

    Raises UserError when no history is long.
    """
    long = [s for s in slates if len(s.history) >= LONG]
    if not long:
        raise UserError(f"no test slate has a history of {LONG} events; there is nothing to compress")
    timed = long[:TIMED]
    cold = replace(compressor, cache={})

    def rank(slate: Slate) -> None:
        rank_in_one_pass(ranker, [slate], batch_size=1, label=None)

    def rank_short(slate: Slate) -> None:
        rank(cold.shorten(slate))

    def step(batch: Sequence[Slate]) -> None:
        policy_loss(scores_at_once(ranker, batch), torch.tensor([s.gains for s in batch]), ROLLOUTS)[0].backward()
        ranker.model.zero_grad()

    def step_short(batch: Sequence[Slate]) -> None:
        step([compressor.shorten(s) for s in batch])

    rank(timed[0])
    return Costs(
        slates=len(timed),
        whole_ms=1000 * median(seconds(rank, s) for s in timed),
        miss_ms=1000 * median(seconds(rank_short, s) for s in timed),
        hit_ms=1000 * median(seconds(rank_short, s) for s in timed),
        whole_step_s=median(seconds(step, long[:STEP]) for _ in range(STEPS)),
        short_step_s=median(seconds(step_short, long[:STEP]) for _ in range(STEPS)),
        cached=len(compressor.cache),
        asked=len(slates),
        hits=sum(key(s.history) in compressor.cache for s in slates),
    )


def seconds(work: Callable[[Any], None], on: Any) -> float:
    """Processor time that it takes."""
    start = time.process_time()
    work(on)
    return time.process_time() - start
