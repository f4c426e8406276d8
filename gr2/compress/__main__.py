"""The compressor beside its rivals on a finished run's test slates: `python -m gr2.compress runs/nano`.

Prints the table and what the compressor saves, and keeps both in runs/nano/compress.json. (ours)
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.compress.context import Compressor, with_whole_history
from gr2.compress.costs import costs
from gr2.compress.table import markdown, rows, shortened
from gr2.errors import in_one_line
from gr2.lm.checkpoint import Checkpoint
from gr2.record import read_json, write_json
from gr2.types import Split


def compare(run: Path) -> str:
    """The table as Markdown. Raises UserError when the run has no compressor or no direct ranker."""
    corpus, ids = Corpus.load(run / "01_corpus"), SemanticIds.load(run / "02_sids")
    seed = read_json(run / "09_compress" / "record.json")["config"]["seed"]
    compressor = Compressor.load(run / "09_compress", corpus, ids)
    ranker = Checkpoint.load(run / "10_direct", corpus, ids)
    shown, newest = ranker.renderer.history, compressor.limits.newest
    ranker = replace(ranker, renderer=replace(ranker.renderer, history=newest, short=None))
    slates = with_whole_history(Slates.load(run / "10_direct").split(Split.TEST), corpus, newest)
    saved = costs(ranker, compressor, slates)
    table = rows(ranker, shortened(slates, compressor, shown, seed), compressor.limits.share, seed)
    write_json(run / "compress.json", {"table": [asdict(row) for row in table], "costs": asdict(saved)})
    return markdown(table, saved, compressor.limits.share)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gr2.compress", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run whose config has [compress.fit]")
    torch.set_num_threads(1)
    with in_one_line():
        print(compare(parser.parse_args().run))


if __name__ == "__main__":
    main()
