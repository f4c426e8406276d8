"""How long a million slates take to evaluate, beside ir-measures called naively: `python -m benchmarks.evaluate_scale`.

Metrics: `per_slate` on Slates and Rankings in memory, against a dict of qrels and a dict of runs handed to
`ir_measures.iter_calc`, both from the same objects to the same six values a slate. The peer gets fewer slates; its time
for all is a straight line through zero, which flatters it, if anything. The whole table (three rankers, both protocols,
intervals, tests) is timed on the way: the slates come and go in parts, so that memory holds one part and the values.
Both run on one thread; seconds are those of the processor, which other work on the machine does not stretch.

Writes benchmarks/results/evaluate_scale.json.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Iterator
from os import cpu_count
from pathlib import Path

import numpy as np

from gr2.evaluate.metrics import MEASURES, per_slate, through_ir_measures
from gr2.evaluate.significance import Draws
from gr2.evaluate.table import compared, corrected
from gr2.types import Ranking, Slate, Split

PART = 50_000
RANKERS = ("incoming", "lambdamart", "gr2_direct")
K = 10
RESULTS = Path(__file__).parent / "results" / "evaluate_scale.json"


def slates_of(rows: range, rng: np.random.Generator) -> list[Slate]:
    """Slates of one positive, five a user."""
    targets = rng.integers(K, size=len(rows))
    gains = [tuple(int(n == target) for n in range(K)) for target in range(K)]
    items = tuple(f"i{n}" for n in range(K))
    return [
        Slate(
            slate_id=f"u{i // 5}:{i % 5}",
            user_id=f"u{i // 5}",
            split=Split.TEST,
            time=i,
            history=items,
            candidates=items,
            scores=(0.0,) * K,
            gains=gains[target],
        )
        for i, target in zip(rows, targets.tolist(), strict=True)
    ]


def rankings_of(slates: list[Slate], rng: np.random.Generator) -> list[Ranking]:
    """A random order of each slate."""
    orders = rng.permuted(np.tile(np.arange(K), (len(slates), 1)), axis=1).tolist()
    return [Ranking(slate_id=s.slate_id, order=tuple(o)) for s, o in zip(slates, orders, strict=True)]


def parts(n: int) -> Iterator[tuple[list[Slate], list[list[Ranking]]]]:
    """Slates and each ranker's rankings, PART at a time."""
    rng = np.random.default_rng(0)
    for start in range(0, n, PART):
        slates = slates_of(range(start, min(start + PART, n)), rng)
        yield slates, [rankings_of(slates, rng) for _ in RANKERS]


def peer_seconds(n: int) -> float:
    """ir-measures on n slates."""
    slates, (rankings, *_) = next(parts(n))
    start = time.process_time()
    through_ir_measures(slates, rankings)
    return time.process_time() - start


def our_seconds(n: int) -> dict[str, float]:
    """One ranker's metrics, and all rankers' metrics and table, in seconds; the making of slates is not counted."""
    metrics, users = 0.0, []
    found: dict[str, dict[str, list[np.ndarray]]] = {r: {m: [] for m in MEASURES} for r in RANKERS}
    for slates, of_rankers in parts(n):
        start = time.process_time()
        for ranker, rankings in zip(RANKERS, of_rankers, strict=True):
            for metric, values_n in per_slate(slates, rankings).items():
                found[ranker][metric].append(values_n)
        metrics += time.process_time() - start
        users += [s.user_id for s in slates]
    start = time.process_time()
    values = {r: {m: np.concatenate(v) for m, v in of.items()} for r, of in found.items()}
    for missed in ([], users[: n // 2]):
        corrected([compared(values, users, missed, "lambdamart", Draws.of(users))])
    table = time.process_time() - start
    return {"metrics": metrics / len(RANKERS), "table": metrics + table}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluate_scale", description=__doc__)
    parser.add_argument("--slates", type=int, default=1_000_000)
    parser.add_argument("--peer-slates", type=int, default=10_000)
    asked = parser.parse_args()
    peer = peer_seconds(asked.peer_slates) * asked.slates / asked.peer_slates
    before = peak_gb()
    ours = our_seconds(asked.slates)
    result = {
        "name": "evaluate_scale",
        "ratio": peer / ours["metrics"],
        "ours": ours["metrics"],
        "peer": peer,
        "unit": "CPU seconds for the six metrics of one ranker",
        "peer_name": "ir-measures, naively",
        "sizes": {
            "slates": asked.slates,
            "candidates": K,
            "users": asked.slates // 5,
            "rankers": len(RANKERS),
            "peer_slates": asked.peer_slates,
            "peer_is_extrapolated": asked.peer_slates < asked.slates,
        },
        "table_seconds": ours["table"],
        "peak_gb": peak_gb(),
        "peak_gb_before": before,
        "machine": f"{platform.machine()}, {cpu_count()} cores",
        "command": "python -m benchmarks.evaluate_scale",
        "date": time.strftime("%Y-%m-%d"),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"evaluate_scale: {result['ratio']:.0f} times as fast as ir-measures; {asked.slates:,} slates: metrics "
        f"{ours['metrics']:.1f} CPU s, table of {len(RANKERS)} rankers {ours['table']:.1f}, "
        f"{result['peak_gb']:.2f} GB"
    )


def peak_gb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()
