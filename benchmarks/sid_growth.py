"""Does the time for unique ids grow in step with the catalogue? A slice of sid_scale.py's items at every size.

`python -m benchmarks.sid_growth --rows 100k,1M,10M`. First codes have nothing to do with each other, so the items of a
few groups of centres tell what all of them cost, at the density that they have among so many rows. Twice: with the
512 x 32 centres of sid_scale.py at every size, so that ten times the rows lie ten times as dense, and with centres that
grow with the rows, 61 rows a centre, as a shop grows. Codebooks are fitted to 20,000 rows of the first kind.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import typer
from threadpoolctl import threadpool_limits

from benchmarks.common import number, origin
from benchmarks.sid_scale import DIMS, SIZES
from gr2.record import write_json
from gr2.sid.assign import nearest_codes, unique_codes
from gr2.sid.quantize import residual_kmeans

GROUPS, SLICE, CENTRES, DENSITY = 512, range(32, 512, 60), 32, 61
RESULTS = Path("benchmarks/results/sid_growth.json")


def items(rows: int, centres: int, groups: range) -> np.ndarray:
    """(n, 64) rows of `groups` out of a catalogue of `rows` around 512 x `centres` centres, in no order."""
    rng = np.random.default_rng(0)
    around = rng.normal(size=(GROUPS, 1, DIMS)) + 0.5 * rng.normal(size=(GROUPS, centres, DIMS))
    around = around[groups].reshape(-1, DIMS)
    weight = (1 / np.arange(10, 10 + GROUPS * centres) ** 0.5).reshape(GROUPS, centres)
    held = rng.poisson(rows * (weight / weight.sum())[groups].ravel())
    vectors = np.repeat(around, held, axis=0)
    vectors = rng.permutation(vectors + 0.25 * rng.normal(size=vectors.shape)).astype(np.float32)
    vectors[49::50] = vectors[48::50][: len(vectors[49::50])]
    return vectors


def measure(rows: int, centres: int, books: tuple[np.ndarray, ...]) -> dict[str, Any]:
    vectors = items(rows, centres, SLICE)
    start = time.process_time()
    wanted = nearest_codes(vectors, books)
    codes = unique_codes(vectors, wanted, books)
    micros = (time.process_time() - start) / len(vectors) * 1e6
    moved = float((codes != wanted).any(axis=1).mean())
    assert len(np.unique(codes, axis=0)) == len(codes)
    return {"rows": rows, "centres": GROUPS * centres, "items": len(vectors), "moved": moved, "micros_an_item": micros}


def main(rows: str = "100k,1M,10M", sample: int = 20_000) -> None:
    with threadpool_limits(limits=1):
        books = residual_kmeans(items(sample, CENTRES, range(GROUPS)), SIZES, seed=0, starts=1).codebooks
        measure(10_000, CENTRES, books)
        table = []
        for size in map(number, rows.split(",")):
            for centres in (CENTRES, max(1, round(size / DENSITY / GROUPS))):
                table.append(measure(size, centres, books))
                print(table[-1], flush=True)
    write_json(
        RESULTS,
        {
            "unit": "CPU microseconds an item, nearest codes and unique ids",
            "rows": table,
            **origin("sid_growth"),
        },
    )


if __name__ == "__main__":
    typer.run(main)
