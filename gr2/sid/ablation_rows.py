"""The ablation's measurements -> rows of docs/results.json: paper, ours, match?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gr2.evaluate.results import Result
from gr2.sid.ablation_arms import REFERENCE
from gr2.sid.ablation_grid import RANDOM, TECHNIQUES

GRID, ARMS = "sid-ablation", "sid-ablation-arms"
CLOSE = 0.05
"""A unique share, or its change, matches when so near to the published one; else at most a change's direction does."""
PUBLISHED: dict[str, tuple[float | None, float | None, float]] = {
    "EMA": (0.313, 0.975, 0.662),
    RANDOM: (0.54, 0.83, 0.29),
    "contrastive loss": (None, None, -0.132),
    "diversity loss": (None, None, 0.006),
    "dead-code reset": (None, None, -0.040),
}
"""P1 §2.3: technique -> average unique share without it, with it, and the change."""
SURE, BOTH = 0.99, 0.9995
"""P1: what reaches the first uses the random last level; EMA and the random last level together reach the second."""


def grid_rows(cells: Sequence[Mapping[str, Any]], n: int) -> Iterator[Result]:
    """Each technique's mean over the grid without and with it; low to high is the range over the grid's cells."""
    for name in (*TECHNIQUES, RANDOM):
        without, with_it = ([c for c in cells if c[name] is on] for on in (False, True))
        papers = PUBLISHED.get(name, (None, None, None))
        for metric, side, paper in zip(("unique without", "unique with"), (without, with_it), papers, strict=False):
            shares = [c["unique"] for c in side]
            match = None if paper is None else "yes" if abs(np.mean(shares) - paper) <= CLOSE else "no"
            yield _row(GRID, name, metric, shares, n, paper=paper, match=match)
        # Cells come in one order, so that cells that differ in nothing else stand at one place of both lists.
        for what in ("unique", "error", "usage"):
            changes = [b[what] - a[what] for a, b in zip(without, with_it, strict=True)]
            paper = papers[2] if what == "unique" else None
            match = None if paper is None else matches(float(np.mean(changes)), paper)
            yield _row(GRID, name, f"change of {what}", changes, n, paper=paper, match=match)
    both = [c["unique"] for c in cells if c["EMA"] and c[RANDOM]]
    reached = "yes" if min(both) >= BOTH else "no"
    yield _row(GRID, "EMA and random last level", "least unique", [min(both)], n, paper=BOTH, match=reached)
    sure = [float(c[RANDOM]) for c in cells if c["unique"] >= SURE]
    if sure:
        name = f"configurations at {SURE:.0%} unique"
        reached = "yes" if min(sure) == 1 else "no"
        yield _row(GRID, name, "use the random last level", sure, len(sure), paper=1.0, match=reached)


def matches(ours: float, paper: float) -> str:
    """`yes`, `direction only` or `no`."""
    if abs(ours - paper) <= CLOSE:
        return "yes"
    return "direction only" if ours * paper > 0 else "no"


def arm_rows(arms: Mapping[str, Mapping[str, Any]], n: int) -> Iterator[Result]:
    """Each arm's ids and nats per item; intervals of nats are 95 %, over events (normal), paired for differences."""
    reference = np.array(arms[REFERENCE]["nats"])
    for name, values in arms.items():
        usage = float(np.mean([level["usage"] for level in values["levels"]]))
        exact = {
            "unique before": values["unique_share_before"],
            "unique": values["unique_share"],
            "error before": values["reconstruction_error_before"],
            "error": values["reconstruction_error"],
            "usage": usage,
            "neighbours share 2 codes": values["levels"][1]["neighbours_sharing"],
        }
        for metric, value in exact.items():
            yield _row(ARMS, name, metric, [value], n)
        nats = np.array(values["nats"])
        yield _mean(name, "nats per item", nats)
        if name != REFERENCE:
            yield _mean(name, f"nats less those of {REFERENCE}", nats - reference)


def _mean(row: str, metric: str, values: np.ndarray) -> Result:
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values))
    mean = float(values.mean())
    return Result(table=ARMS, row=row, metric=metric, ours=mean, low=mean - half, high=mean + half, n=len(values))


def _row(
    table: str,
    row: str,
    metric: str,
    values: Sequence[float],
    n: int,
    paper: float | None = None,
    match: str | None = None,
) -> Result:
    """The mean, with the range of the values as low and high."""
    return Result(
        table=table,
        row=row,
        metric=metric,
        ours=float(np.mean(values)),
        low=float(min(values)),
        high=float(max(values)),
        n=n,
        paper=paper,
        match=match,
    )
