"""Traces from the evidence teacher: rejection sampling and targeted sampling. (P1 §3, P2 §3)

The first attempt is the teacher's plain judgement. Each later one lets one kind of evidence, drawn at random, weigh
more and draws its first pick from the softmax (Gumbel noise); the candidates after the pick keep the teacher's own
order. The target is only compared with what came out. (ours)

Shapes: A attempts, S slates, K candidates, T kinds of evidence.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from gr2.progress import track
from gr2.teach.rationale import Lexicon, Rationale, explain
from gr2.teach.teacher import Opinions
from gr2.types import Ranking, Slate, Trace

BUCKETS = {"1": 1, "2-3": 3, "4-6": 6, "7+": 10**9}
"""How hard a slate is -> the last incoming rank of the target that is so hard."""


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """What the teacher picked, attempt by attempt, not knowing the target."""

    picks: np.ndarray
    """(A, S) candidate positions."""
    emphasis: np.ndarray
    """(A, S, T) by how much each kind of evidence was multiplied."""


def draw(opinions: Opinions, attempts: int, emphasis: float, temperature: float, seed: int) -> Attempts:
    """Pick a first candidate `attempts` times. `emphasis` multiplies one kind of evidence; `temperature` the noise."""
    rng = np.random.default_rng(seed)
    n_slates, n_candidates, n_kinds = opinions.strengths.shape
    speaking = np.flatnonzero(np.abs(opinions.strengths).sum((0, 1)) > 0)
    loud = rng.choice(speaking if len(speaking) else [0], size=(attempts, n_slates, 1)) == np.arange(n_kinds)
    noise = rng.gumbel(scale=1.0, size=(attempts, n_slates, n_candidates)) * temperature
    loud[:1], noise[:1] = False, 0.0
    multiplied = np.where(loud, emphasis, 1.0)
    totals = opinions.totals + np.einsum("skt,ast->ask", opinions.strengths, multiplied - 1.0) + noise
    return Attempts(picks=np.where(opinions.rows.real, totals, -np.inf).argmax(2), emphasis=multiplied)


def rejection(
    words: Lexicon, opinions: Opinions, tried: Attempts, cited_history: int
) -> tuple[list[Trace], Counter[str]]:
    """One trace a slate, kept at the first attempt that puts the target first, else refused at the last.

    Also counts why every refused attempt was refused.
    """
    targets = np.array([slate.target for slate in opinions.slates])
    hits = tried.picks == targets
    ends = np.where(hits.any(0), hits.argmax(0), len(hits) - 1)
    traces, refusals = [], Counter[str]()
    for at, slate in enumerate(track(opinions.slates, "traces")):
        orders = [led_by(int(pick), opinions.orders[at]) for pick in tried.picks[: ends[at] + 1, at]]
        reasons = [_reason(order, slate) for order in orders]
        kept = bool(hits[ends[at], at])
        refusals.update(reasons[:-1] if kept else reasons)
        lifts = opinions.strengths[at, orders[-1][0]] * tried.emphasis[ends[at], at]
        why = explain(words, opinions, at, orders[-1], lifts, cited_history)
        traces.append(_trace(slate, orders[-1], why, int(ends[at]), kept, reasons[-1]))
    return traces, refusals


def targeted(words: Lexicon, opinions: Opinions, cited_history: int) -> list[Trace]:
    """One trace a slate by a teacher that is shown the target and explains it: always kept, and label-aware (P1 §3)."""
    traces = []
    for at, slate in enumerate(track(opinions.slates, "traces")):
        order = led_by(slate.target, opinions.orders[at])
        why = explain(words, opinions, at, order, opinions.strengths[at, slate.target], cited_history)
        reason = f"shown the target, incoming {bucket(slate)}"
        traces.append(_trace(slate, order, why, 0, True, reason))
    return traces


def rank(words: Lexicon, opinions: Opinions, cited_history: int) -> list[Ranking]:
    """The teacher's plain judgement of every slate, with its reasons: what its first attempt would be."""
    rankings = []
    for at, (slate, order) in enumerate(zip(opinions.slates, opinions.orders, strict=True)):
        why = explain(words, opinions, at, order, opinions.strengths[at, order[0]], cited_history)
        rankings.append(Ranking(slate_id=slate.slate_id, order=order, thought=why.text))
    return rankings


def led_by(pick: int, order: tuple[int, ...]) -> tuple[int, ...]:
    """`order` with `pick` moved to its head."""
    return (pick, *(candidate for candidate in order if candidate != pick))


def bucket(slate: Slate) -> str:
    """How hard the slate is: the incoming rank of its target, coarsely."""
    return next(name for name, last in BUCKETS.items() if slate.target < last)


def _reason(order: tuple[int, ...], slate: Slate) -> str:
    place = order.index(slate.target) + 1
    ordinal = f"{place}{'th' if 10 <= place % 100 <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"
    return f"target ranked {ordinal}, incoming {bucket(slate)}"


def _trace(slate: Slate, order: tuple[int, ...], why: Rationale, attempt: int, kept: bool, reason: str) -> Trace:
    return Trace(
        slate_id=slate.slate_id,
        thought=why.text,
        order=order,
        evidence=why.evidence,
        attempt=attempt,
        kept=kept,
        reason=reason,
    )
