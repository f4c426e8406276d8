"""The trie of sid/trie.py against a dict of sets: lookups a second, one by one and as masks of 256 beams, and memory.

`python -m benchmarks.trie --rows 100k,10M --peer-up-to 1M`. Both sides answer the same random prefixes of existing ids.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks.common import number, origin
from gr2.record import write_json
from gr2.sid.trie import Trie

BEAMS, CODES, SECONDS = 256, 256, 2.0
RESULTS = Path("benchmarks/results/trie.json")
Children = dict[tuple[int, ...], set[int]]


def clustered_ids(rows: int) -> np.ndarray:
    """(about `rows`, 4) distinct ids whose first codes are used unevenly, as those of real catalogues are."""
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(4, CODES + 4)
    columns = [rng.choice(CODES, size=rows, p=weight / weight.sum()) for _ in range(3)]
    columns.append(rng.integers(0, CODES, rows))
    return np.unique(np.stack(columns).astype(np.uint8).T.copy().view(np.uint32)).view(np.uint8).reshape(-1, 4)


def dict_of_sets(codes: np.ndarray) -> Children:
    children: Children = {}
    for row in map(tuple, codes.tolist()):
        for level, code in enumerate(row):
            children.setdefault(row[:level], set()).add(code)
    return children


def peer_mask(children: Children, prefixes: list[tuple[int, ...]]) -> np.ndarray:
    """What `Trie.mask` answers, from the dict."""
    out = np.zeros((len(prefixes), CODES), dtype=bool)
    for beam, prefix in enumerate(prefixes):
        out[beam, list(children[prefix])] = True
    return out


def per_second(work: Callable[[Any], object], arguments: list[Any], each: int) -> int:
    """Lookups a CPU second of `work` over `arguments`, `each` lookups a call."""
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < SECONDS:
        work(arguments[done % len(arguments)])
        done += 1
    return round(done * each / spent)


def compare(rows: int, with_peer: bool) -> dict[str, Any]:
    codes = clustered_ids(rows)
    start = time.process_time()
    trie = Trie(codes)
    found: dict[str, Any] = {"rows": len(trie), "build_seconds": round(time.process_time() - start, 2)}
    found |= {"mb": round(trie.nbytes / 1e6, 1), "bytes_per_id": round(trie.nbytes / len(trie), 2)}
    rng = np.random.default_rng(1)
    lengths = rng.integers(0, 4, 4096)
    prefixes = [tuple(codes[i, :n].tolist()) for i, n in zip(rng.integers(0, len(codes), 4096), lengths, strict=True)]
    # Beams stand at one depth: 256 prefixes of two codes.
    beams = [codes[rng.integers(0, len(codes), BEAMS), :2].astype(np.int64) for _ in range(16)]
    found["lookups"] = per_second(trie.allowed, prefixes, 1)
    found["mask_lookups"] = per_second(lambda b: trie.mask(b, CODES), beams, BEAMS)
    if with_peer:
        children = dict_of_sets(codes)
        assert all(set(trie.allowed(p)) == children[p] for p in prefixes)
        rows_of = [[tuple(row) for row in b.tolist()] for b in beams]
        found["peer_lookups"] = per_second(children.__getitem__, prefixes, 1)
        found["peer_mask_lookups"] = per_second(lambda b: peer_mask(children, b), rows_of, BEAMS)
        sets = sum(sys.getsizeof(s) + sys.getsizeof(p) for p, s in children.items())
        found["peer_mb"] = round((sets + sys.getsizeof(children)) / 1e6, 1)
    print(json.dumps(found), flush=True)
    return found


def main(rows: str = "100k,1M,10M", peer_up_to: str = "1M") -> None:
    table = [compare(n, n <= number(peer_up_to)) for n in map(number, rows.split(","))]
    last = [row for row in table if "peer_mb" in row][-1]
    write_json(
        RESULTS,
        {
            "ratio": round(last["mask_lookups"] / last["peer_mask_lookups"], 2),
            "ours": last["mask_lookups"],
            "peer": {"name": "dict of sets", "value": last["peer_mask_lookups"]},
            "unit": f"prefixes looked up a CPU second, as masks of {BEAMS} beams",
            "sizes": {"levels": 4, "codes": CODES, "rows": last["rows"]},
            "rows": table,
            **origin("trie"),
        },
    )


if __name__ == "__main__":
    typer.run(main)
