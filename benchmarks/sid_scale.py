"""Ids for 10k to 10M synthetic clustered 64-d items: time, peak memory, unique share; peers at a size they can do.

`python -m benchmarks.sid_scale --rows 10k,100k,1M,10M`. Every measurement runs in a process of its own. Seconds are CPU
seconds, so that a shared machine does not spoil them; wall seconds stand beside them. Peers see the vectors in memory.
"""

import importlib.util
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from threadpoolctl import threadpool_limits

from benchmarks.common import number, origin
from gr2.record import write_json
from gr2.sid.assign import reconstruct
from gr2.sid.quantize import residual_kmeans
from gr2.sid.stream import assign_parquet

DIMS, SIZES, PART = 64, (256, 256, 256, 256), 250_000
RESULTS = Path("benchmarks/results/sid_scale.json")
Measured = dict[str, Any]


def make_items(folder: Path, rows: int) -> None:
    """Parquet parts of items around 512 x 32 centres with Zipf-like weights; every 50th equals the item before it."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(512, 1, DIMS)) + 0.5 * rng.normal(size=(512, 32, DIMS))
    weight = 1 / np.arange(10, 10 + 512 * 32) ** 0.5
    folder.mkdir(parents=True)
    for part, start in enumerate(range(0, rows, PART)):
        n = min(PART, rows - start)
        centre = rng.choice(len(weight), size=n, p=weight / weight.sum())
        vectors = centres.reshape(-1, DIMS)[centre]
        vectors = (vectors + 0.25 * rng.normal(size=(n, DIMS))).astype(np.float32)
        vectors[49::50] = vectors[48::50][: len(vectors[49::50])]
        ids = [str(start + i) for i in range(n)]
        pl.DataFrame({"item_id": ids, "vector": vectors}).write_parquet(
            folder / f"{part:05d}.parquet", compression="uncompressed"
        )


def sample_of(folder: Path, n: int) -> np.ndarray:
    """About `n` rows (n, 64), the first of each part: rows are in no order."""
    parts = sorted(folder.glob("*.parquet"))
    return np.concatenate([pl.read_parquet(p, n_rows=-(-n // len(parts)))["vector"].to_numpy() for p in parts])[:n]


def fit(folder: Path, sample: int) -> Measured:
    books = residual_kmeans(sample_of(folder, sample), SIZES, seed=0, starts=1).codebooks
    np.savez(folder.with_suffix(".npz"), *books)
    return {}


def assign(folder: Path, rows: int) -> Measured:
    with np.load(folder.with_suffix(".npz")) as saved:
        books = tuple(saved.values())
    target = folder.with_suffix(".ids.parquet")
    done = assign_parquet(folder, target, books)
    codes = pl.read_parquet(target, columns=["codes"])["codes"].to_numpy()
    return {"moved": done.moved, "error_before": done.error_before, "error": done.error, "unique_share": alone(codes)}


def sklearn_peer(folder: Path, rows: int) -> Measured:
    """scikit-learn k-means on all rows, level by level, and no repair."""
    vectors = sample_of(folder, rows)
    made = residual_kmeans(vectors, SIZES, seed=0, starts=1)
    return scored(vectors, reconstruct(made.codes, made.codebooks), made.codes)


def faiss_peer(folder: Path, rows: int) -> Measured:
    """faiss ResidualQuantizer at its defaults (beam 5), trained on all rows."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = sample_of(folder, rows)
    quantizer = faiss.ResidualQuantizer(DIMS, len(SIZES), 8)
    quantizer.train(vectors)
    codes = quantizer.compute_codes(vectors)
    return scored(vectors, quantizer.decode(codes), codes)


def residual_vq_peer(folder: Path, rows: int) -> Measured:
    """ResidualVQ of vector-quantize-pytorch: k-means start, dead codes reset, 5 epochs of EMA."""
    import torch
    from vector_quantize_pytorch import ResidualVQ

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vectors = torch.from_numpy(sample_of(folder, rows))
    layer = ResidualVQ(
        dim=DIMS, num_quantizers=len(SIZES), codebook_size=256, kmeans_init=True, threshold_ema_dead_code=2
    )
    for _ in range(5):
        for batch in vectors[torch.randperm(len(vectors))].split(4096):
            layer(batch[None])
    layer.eval()
    with torch.no_grad():
        done = [layer(batch[None])[:2] for batch in vectors.split(4096)]
    made, codes = (torch.cat([pair[i][0] for pair in done]).numpy() for i in (0, 1))
    return scored(vectors.numpy(), made, codes)


PEERS: dict[str, tuple[Callable[[Path, int], Measured], str]] = {
    "scikit-learn k-means": (sklearn_peer, "sklearn"),
    "faiss ResidualQuantizer": (faiss_peer, "faiss"),
    "ResidualVQ": (residual_vq_peer, "vector_quantize_pytorch"),
}


def scored(vectors: np.ndarray, made: np.ndarray, codes: np.ndarray) -> Measured:
    error = float(((vectors - made) ** 2).sum(axis=1, dtype=np.float64).mean())
    return {"error": error, "unique_share": alone(codes)}


def alone(codes: np.ndarray) -> float:
    """Share of rows (N, 4) of bytes that no other row equals."""
    key = np.ascontiguousarray(codes.astype(np.uint8)).view(np.uint32)[:, 0]
    return float((np.unique(key, return_counts=True)[1] == 1).sum() / len(key))


def measured(work: Callable[..., Measured], *arguments: Any) -> Measured:
    """What `work` answers, with its CPU and wall seconds and peak memory, in a fresh process and on one thread."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, work, *arguments).result()


def _measure(work: Callable[..., Measured], *arguments: Any) -> Measured:
    with threadpool_limits(limits=1):
        cpu, wall = time.process_time(), time.time()
        answer = work(*arguments)
        answer |= {"seconds": round(time.process_time() - cpu, 2), "wall_seconds": round(time.time() - wall, 1)}
    return answer | {"peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 3)}


def run_size(scratch: Path, rows: int, sample: int, peers_up_to: int) -> list[Measured]:
    folder = scratch / f"items-{rows}"
    make_items(folder, rows)
    fitted = measured(fit, folder, sample)
    given = measured(assign, folder, rows)
    both = {key: round(fitted[key] + given[key], 2) for key in ("seconds", "wall_seconds")}
    ours = given | both | {"fit": fitted, "assign": dict(given), "peak_gb": max(fitted["peak_gb"], given["peak_gb"])}
    found = [{"name": "gr2", "rows": rows, **ours, "items_per_second": round(rows / ours["seconds"])}]
    for name, (peer, module) in PEERS.items():
        if rows <= peers_up_to and importlib.util.find_spec(module):
            row = measured(peer, folder, rows)
            found.append({"name": name, "rows": rows, **row, "items_per_second": round(rows / row["seconds"])})
    shutil.rmtree(folder)
    for row in found:
        print(json.dumps(row), flush=True)
    return found


def write(table: Sequence[Measured], sample: int) -> None:
    peers = [row for row in table if row["name"] != "gr2"]
    largest = max((row["rows"] for row in peers), default=0)
    ours = next(row for row in table if row["name"] == "gr2" and row["rows"] == (largest or table[0]["rows"]))
    # The peer is the one whose speed is best at the largest size that peers ran at.
    peer = max((r for r in peers if r["rows"] == largest), key=lambda r: r["items_per_second"], default=None)
    write_json(
        RESULTS,
        {
            "ratio": round(ours["items_per_second"] / peer["items_per_second"], 3) if peer else None,
            "ours": ours["items_per_second"],
            "peer": peer and {"name": peer["name"], "value": peer["items_per_second"]},
            "unit": "items per CPU second, fit and ids",
            "sizes": {"dims": DIMS, "codebook_sizes": SIZES, "fit_sample": sample},
            "rows": table,
            **origin("sid_scale"),
        },
    )


def main(
    rows: str = "10k,100k,1M,10M",
    sample: int = 20_000,
    peers_up_to: str = "10k",
    scratch: Annotated[Path | None, typer.Option(help="where items are made; up to 6 GB for 10M")] = None,
) -> None:
    table: list[Measured] = []
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for n in map(number, rows.split(",")):
            table += run_size(Path(folder), n, sample, number(peers_up_to))
            write(table, sample)
    ours = [row for row in table if row["name"] == "gr2"]
    print(" | ".join(f"{r['rows']:,}: {r['seconds']} s, {r['peak_gb']} GB, unique {r['unique_share']}" for r in ours))


if __name__ == "__main__":
    typer.run(main)
