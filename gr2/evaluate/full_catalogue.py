"""Retrievers over the whole catalogue, as the papers measure them: the pre-ranker, and the mid-trained model's beam.

    python -m gr2.evaluate.full_catalogue runs/beauty-sorted --seeds 0 1 2 --beam-users 4000 --table beauty-catalogue

Every held-out event asks for the rank of its item among all items, given all events before it. Two protocols: `all`
ranks the whole catalogue, `unseen` takes out what the user has had already. A tie counts against the target. The
pre-ranker is the run's own; for further seeds it is trained anew as the run's [slates] says, and kept in
RUN/catalogue. Intervals are bootstraps over users, of each user's mean over seeds. (method §6; ours)

Writes RUN/catalogue/SPLIT.json, rows as in docs/results.json; with --table, they are put there too.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gr2.artifacts import Corpus, SemanticIds
from gr2.errors import in_one_line
from gr2.evaluate.results import Result, put_rows, reached
from gr2.evaluate.significance import Draws, interval
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.memory import keep_freed_memory
from gr2.progress import track
from gr2.record import is_complete, write_json
from gr2.retrieve import sasrec
from gr2.retrieve.beam import beam_items
from gr2.run import CONFIG, load_config
from gr2.stages import s04_slates
from gr2.types import Split

K = 10
WIDTH = 50
"""Beams: enough that ten unseen items are left of them."""
BATCH = 128
PUBLISHED = {
    ("beauty-catalogue", "SASRec, full cross-entropy", "R@10"): 0.0897,
    ("beauty-catalogue", "SASRec, full cross-entropy", "N@10"): 0.0539,
    ("beauty-long-catalogue", "SASRec, full cross-entropy", "R@10"): 0.0897,
    ("beauty-long-catalogue", "SASRec, full cross-entropy", "N@10"): 0.0539,
    ("beauty-catalogue", "mid-trained, held beam", "R@10"): 0.0774,
}
"""Table, row and metric: a careful public re-run of three seeds with the events in the order of the data set, as ours
are (.0859 and .0503 without), and P1 (method §6)."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A held-out event."""

    user: str
    history: tuple[str, ...]
    """All events before it, oldest first."""
    times: tuple[int, ...]
    """Seconds of each of them, and of the event itself."""
    target: str


def questions(corpus: Corpus, split: Split) -> list[Question]:
    """Every event of the split, user by user."""
    return [
        Question(user=t.user_id, history=t.item_ids[:at], times=t.times[: at + 1], target=t.item_ids[at])
        for t in corpus.timelines
        for at, part in enumerate(t.splits)
        if part is split
    ]


def sasrec_ranks(model: sasrec.Sasrec, asked: Sequence[Question], row: dict[str, int]) -> dict[str, np.ndarray]:
    """Protocol -> (n,) rank of the target from 0. The target itself is never taken out."""
    ranks = {name: np.empty(len(asked), dtype=np.int64) for name in ("all", "unseen")}
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].history))
    for at in track(range(0, len(order), BATCH), "SASRec, whole catalogue"):
        picked = order[at : at + BATCH]
        seen = [[row[item] for item in asked[i].history] for i in picked]
        for i, rows, scores_N in zip(picked, seen, sasrec.scores(model, seen), strict=True):
            target = row[asked[i].target]
            above = scores_N >= scores_N[target]
            ranks["all"][i] = above.sum() - 1
            above[[r for r in rows if r != target]] = False
            ranks["unseen"][i] = above.sum() - 1
    return ranks


def beam_ranks(checkpoint: Checkpoint, asked: Sequence[Question]) -> dict[str, np.ndarray]:
    """Protocol -> (n,) place of the target in the beam from 0; WIDTH where it is not there."""
    histories, times = [q.history for q in asked], [q.times for q in asked]
    lists = beam_items(checkpoint, histories, times, WIDTH, label="held beam, whole catalogue")
    unseen = [
        [item for item in items if item == q.target or item not in q.history]
        for q, items in zip(asked, lists, strict=True)
    ]
    return {"all": places(asked, lists), "unseen": places(asked, unseen)}


def places(asked: Sequence[Question], lists: Sequence[Sequence[str]]) -> np.ndarray:
    """(n,) place of each target in its list from 0; WIDTH where it is not there."""
    return np.array([r.index(q.target) if q.target in r else WIDTH for q, r in zip(asked, lists, strict=True)])


def measured(ranks_n: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (n,) values; with one target the ideal DCG is 1."""
    found_n = ranks_n < K
    return {"R@10": found_n.astype(float), "N@10": found_n / np.log2(ranks_n + 2)}


def rows(table: str, name: str, asked: Sequence[Question], ranks: Sequence[dict[str, np.ndarray]]) -> Iterator[Result]:
    """Both protocols' metrics of one retriever; `ranks` has one entry a seed. The papers' stand beside `unseen`."""
    users = [q.user for q in asked]
    draws = Draws.of(users)
    for protocol in ranks[0]:
        seeds = [measured(one[protocol]) for one in ranks]
        for metric in seeds[0]:
            values_n = np.mean([values[metric] for values in seeds], axis=0)
            low, high = interval(draws.means([values_n], users)[:, 0])
            ours, paper = float(values_n.mean()), PUBLISHED.get((table, name, metric)) if protocol == "unseen" else None
            yield Result(
                table=table,
                row=f"{name} ({protocol} items)",
                metric=metric,
                ours=ours,
                low=low,
                high=high,
                n=len(asked),
                paper=paper,
                match=reached(ours, paper),
                more={"by_seed": [float(values[metric].mean()) for values in seeds]},
            )


def pre_ranker(run: Path, corpus: Corpus, seed: int) -> sasrec.Sasrec:
    """The run's own where it is made, or one of this seed, trained as the run's config says and kept."""
    config = load_config(run / CONFIG)
    if seed == config.seed and is_complete(run / s04_slates.NAME):
        return sasrec.load(run / s04_slates.NAME / sasrec.PRE_RANKER)
    kept = run / "catalogue" / f"sasrec-{seed}"
    if not (kept / "config.json").exists():
        slates: Any = config.tables["slates"]
        model = s04_slates.fit(corpus.timelines, corpus.row, slates, seed, lambda loss: print(f"  {loss:.4f} nats"))
        sasrec.save(model, kept)
    return sasrec.load(kept)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gr2.evaluate.full_catalogue", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder, complete as far as 01_corpus; with a beam, 03_midtrain")
    parser.add_argument("--split", type=Split, default=Split.TEST, choices=(Split.VALID, Split.TEST))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the pre-ranker")
    parser.add_argument("--beam-users", type=int, default=0, help="held-out events, drawn at random, of the beam")
    parser.add_argument("--table", help="also put the rows into docs/results.json as this table")
    arg = parser.parse_args()
    table = arg.table or "catalogue"
    corpus = Corpus.load(arg.run / "01_corpus")
    asked = questions(corpus, arg.split)
    models = [pre_ranker(arg.run, corpus, seed) for seed in arg.seeds]
    ranks = [sasrec_ranks(model, asked, corpus.row) for model in models]
    made = [(len(models), row) for row in rows(table, "SASRec, full cross-entropy", asked, ranks)]
    if arg.beam_users:
        picked = np.sort(np.random.default_rng(0).permutation(len(asked))[: arg.beam_users])
        some = [asked[i] for i in picked]
        checkpoint = Checkpoint.load(arg.run / "03_midtrain", corpus, SemanticIds.load(arg.run / "02_sids"))
        found = rows(table, "mid-trained, held beam", some, [beam_ranks(checkpoint, some)])
        made += [(1, row) for row in found]
        of_them = [{protocol: r[picked] for protocol, r in one.items()} for one in ranks]
        same = rows(table, "SASRec, users of the beam", some, of_them)
        made += [(len(models), row) for row in same]
    command = shlex.join(["python", "-m", "gr2.evaluate.full_catalogue", *sys.argv[1:]])
    written: list[dict[str, Any]] = [row.as_json(seeds, command) for seeds, row in made]
    (arg.run / "catalogue").mkdir(exist_ok=True)
    write_json(arg.run / "catalogue" / f"{arg.split.value}.json", written)
    if arg.table:
        put_rows(Path("docs"), {arg.table}, written)
    for r in written:
        print(f"{r['row']:45} {r['metric']}  {r['ours']:.4f} ({r['low']:.4f}-{r['high']:.4f})  n = {r['n']}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    with in_one_line():
        main()
