"""The ablation of P1 §2.3 on a catalogue: `python -m gr2.sid.ablation --data ../shared/data/amazon_beauty_2014`.

Two parts, both on text alone (P1's ids are made of text; one arm adds company) and 4 x 256 codes.
1. Grid: an RQ-VAE for every combination of the techniques, each with its own and with random last codes. A technique's
   effect is the mean unique share with it less that without it, which is what P1 calls average uniqueness.
2. Arms: one technique changed at a time, made unique, then a nano model mid-trained on the ids at the same small
   budget for each; the figure is nats per held-out item.

What is done is kept in `--work`, so that a stopped ablation goes on. Results: docs/results.json and docs/results.md,
tables sid-ablation and sid-ablation-arms. (P1 §2.3; the two parts and their budget are ours)
"""

import argparse
import shlex
from functools import partial
from pathlib import Path

from gr2.errors import in_one_line
from gr2.evaluate.results import put_rows
from gr2.progress import track
from gr2.record import digest_json
from gr2.sid.ablation_arms import ARMS, arm
from gr2.sid.ablation_grid import grid, once, read_catalogue
from gr2.sid.ablation_rows import arm_rows, grid_rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gr2.sid.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="folder with items.jsonl.gz and sequences.jsonl.gz")
    parser.add_argument("--work", type=Path, default=Path("runs/sid-ablation"), help="folder for what is done")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="folder of text vectors")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of results.json")
    parser.add_argument("--rqvae-steps", type=int, default=600, help="optimizer steps of each RQ-VAE")
    parser.add_argument("--midtrain-steps", type=int, default=300, help="steps of 16 rows of each nano model")
    with in_one_line():
        run(parser.parse_args())


def run(asked: argparse.Namespace) -> None:
    """Both parts, then their rows into `docs`."""
    asked.work.mkdir(parents=True, exist_ok=True)
    catalogue = read_catalogue(asked.data, asked.cache)
    cells = grid(catalogue, asked.work, asked.rqvae_steps)
    steps = {"rqvae_steps": asked.rqvae_steps, "midtrain_steps": asked.midtrain_steps}
    arms = {}
    for name in track(list(ARMS), "arms"):
        path = asked.work / f"arm_{digest_json(name)}.json"
        arms[name] = once(path, [ARMS[name], steps], partial(arm, catalogue, name, asked.work, **steps))
    n = len(catalogue.corpus.items)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in steps.items()]
    command = shlex.join(["python", "-m", "gr2.sid.ablation", "--data", f"../shared/data/{asked.data.name}", *flags])
    rows = [result.as_json(1, command) for result in (*grid_rows(cells, n), *arm_rows(arms, n))]
    put_rows(asked.docs, {row["table"] for row in rows}, rows)


if __name__ == "__main__":
    main()
