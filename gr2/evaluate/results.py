"""docs/results.json and docs/results.md: `python -m gr2.evaluate.results --table nano runs/a runs/b runs/c`.

Pools finished runs of one config and other seeds into the tables nano, nano-end-to-end, nano-margins, nano-validity
and nano-cost, replaces those rows of results.json, keeps all others, and writes results.md from the whole. (ours)
"""

import argparse
import math
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from gr2.baselines.tuning import PRACTISED
from gr2.errors import in_one_line
from gr2.evaluate.headline import PUBLISHED, gr2_modes
from gr2.evaluate.metrics import MEASURES
from gr2.evaluate.pooled import (
    BEST_LEGACY,
    BEST_SINGLE,
    NOT_LEGACY,
    NOT_SINGLE,
    Finished,
    Pooled,
    load_runs,
    pool,
)
from gr2.evaluate.results_page import MARGINS, page
from gr2.evaluate.significance import holm, interval, paired_p
from gr2.evaluate.table import INCOMING
from gr2.record import read_json, write_json

SUFFIXES = ("", "-end-to-end", MARGINS, "-validity", "-cost")
VALID, TRUTH = "valid share", "truth"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number of one table."""

    table: str
    row: str
    metric: str
    ours: float
    low: float
    high: float
    n: int
    paper: float | None = None
    match: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """What only some tables have: p, p_holm, p_by_seed, change_by_seed; machine."""

    def as_json(self, seeds: int, command: str) -> dict[str, Any]:
        return {
            "table": self.table,
            "row": self.row,
            "metric": self.metric,
            "paper": self.paper,
            "ours": self.ours,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "seeds": seeds,
            "command": command,
            "match": self.match,
            **self.more,
        }


STRONGEST, SINGLE = "strongest legacy", "strongest single legacy"
PLAIN = "strongest single legacy without practice slates"


def results(table: str, runs: Sequence[Finished]) -> Iterator[Result]:
    """All rows of the five tables."""
    given = pool(runs, end_to_end=False)
    yield from scores(table, given)
    yield from scores(table + "-end-to-end", pool(runs, end_to_end=True))
    yield from margins(table + MARGINS, given, runs)
    yield from validity(table + "-validity", runs)
    yield from cost(table + "-cost", runs)


def scores(table: str, pooled: Pooled) -> Iterator[Result]:
    """Every ranker's metrics. The papers' own values are of other data and are not set beside them."""
    for (ranker, metric), mean in pooled.mean.items():
        if ranker not in (BEST_LEGACY, BEST_SINGLE):
            low, high = interval(pooled.draws[ranker, metric])
            yield Result(
                table=table,
                row=ranker,
                metric=metric,
                ours=mean,
                low=low,
                high=high,
                n=pooled.n,
                match="different data",
            )


def margins(table: str, pooled: Pooled, runs: Sequence[Finished]) -> Iterator[Result]:
    """GR2's modes against the incoming order, the best legacy re-ranker as each seed's validation chose it, the best
    single one so chosen, which is neither a stack of the others nor a part of GR2, and those that are strongest on
    these very slates: of all, of the single ones, and where there are practice slates of those that had none. Relative
    change, pooled p, each seed's change and, where its own table has it, p.

    Holm's correction is for all modes and metrics against one of these, as over a run's own table. `match` is
    whether our change is at least the published one.
    """
    modes = gr2_modes(runs[0].scores)
    practised = {ranker for ranker, _ in pooled.mean if ranker.endswith(PRACTISED)}
    strongest = {STRONGEST: _strongest(pooled), SINGLE: _strongest(pooled, NOT_SINGLE)}
    if practised:
        strongest[PLAIN] = _strongest(pooled, (*NOT_SINGLE, *practised))
    rows = {
        INCOMING: INCOMING,
        BEST_LEGACY: _chosen(BEST_LEGACY, [run.scores.best_legacy for run in runs]),
        BEST_SINGLE: _chosen(BEST_SINGLE, [run.best_single for run in runs]),
    } | {kind: f"{kind} on these slates ({', '.join(sorted(set(of.values())))})" for kind, of in strongest.items()}
    for kind, words in rows.items():
        published = PUBLISHED if kind == INCOMING else {}
        family = [
            (mode, metric, strongest[kind][metric] if kind in strongest else kind)
            for metric in MEASURES
            for mode in modes
        ]
        ps = [_p(pooled, mode, base, metric) for mode, metric, base in family]
        for (mode, metric, base), p, p_holm in zip(family, ps, holm(ps), strict=True):
            base_D = pooled.draws[base, metric]
            if not base_D.all():
                continue  # a few users only: nothing is relative to 0
            low, high = interval(pooled.draws[mode, metric] / base_D - 1)
            ours, paper = pooled.mean[mode, metric] / pooled.mean[base, metric] - 1, published.get(metric)
            yield Result(
                table=table,
                row=f"{mode} against {words}",
                metric=metric,
                paper=paper,
                ours=ours,
                low=low,
                high=high,
                n=pooled.n,
                match=reached(ours, paper),
                more={
                    "p": p,
                    "p_holm": p_holm,
                    "change_by_seed": _change_by_seed(runs, mode, base, metric),
                    **({"p_by_seed": _p_by_seed(runs, mode, base, metric)} if kind in (INCOMING, BEST_LEGACY) else {}),
                },
            )


def reached(ours: float, paper: float | None) -> str | None:
    """Whether ours is at least the published value; None where none is published."""
    return None if paper is None else "yes" if ours >= paper else "no"


def _p(pooled: Pooled, mode: str, base: str, metric: str) -> float:
    observed = pooled.mean[mode, metric] - pooled.mean[base, metric]
    return paired_p(observed, pooled.draws[mode, metric] - pooled.draws[base, metric])


def _strongest(pooled: Pooled, left_out: Sequence[str] = ()) -> dict[str, str]:
    """Metric -> the ranker without a language model with the highest mean: chosen by these slates, against GR2."""
    legacy = {ranker for ranker, _ in pooled.mean if not ranker.startswith(NOT_LEGACY)} - {
        BEST_LEGACY,
        BEST_SINGLE,
        *left_out,
    }
    return {metric: max(sorted(legacy), key=lambda r: pooled.mean[r, metric]) for metric in MEASURES}


def _change_by_seed(runs: Sequence[Finished], mode: str, base: str, metric: str) -> dict[str, float]:
    """The relative change of each seed."""
    means = {str(run.seed): [float(run.values[r][metric].mean()) for r in (mode, base)] for run in runs}
    return {seed: ours / theirs - 1 if theirs else math.nan for seed, (ours, theirs) in means.items()}


def _p_by_seed(runs: Sequence[Finished], mode: str, base: str, metric: str) -> dict[str, float | None]:
    """As each run's own summary.json has it: McNemar for R@1, bootstrap for the others."""
    values = {str(run.seed): run.scores.table["given_target"][mode][metric] for run in runs}
    return {seed: v.p_incoming if base == INCOMING else v.p_best_legacy for seed, v in values.items()}


def _chosen(kind: str, by_seed: Sequence[str]) -> str:
    """`best legacy (lambdamart)`; seeds may differ."""
    return f"{kind} ({', '.join(sorted(set(by_seed)))})"


def validity(table: str, runs: Sequence[Finished]) -> Iterator[Result]:
    """Unique ids (all items are counted; low and high are those of the seeds), valid answers, written freely and as
    served, and true thoughts."""
    reports = [read_json(run.folder / "02_sids" / "report.json") for run in runs]
    shares = [report["unique_share"] for report in reports]
    yield _over_seeds(table, "semantic ids", "unique share", shares, reports[0]["n_items"])
    free = [read_json(run.folder / "13_evaluate" / "free_answers.json") for run in runs]
    for name in free[0]:
        counted = [answers[name] for answers in free]
        valid = sum(one["statuses"].get("valid", 0) for one in counted)
        yield _share(table, f"{name}, free", valid, sum(one["n"] for one in counted))
    for name in gr2_modes(runs[0].scores):
        statuses = [r.status.value for run in runs for r in run.rankings[name].rankings]
        yield _share(table, f"{name}, as served", statuses.count("valid"), len(statuses))
    yield from truth(table, runs)


def truth(table: str, runs: Sequence[Finished]) -> Iterator[Result]:
    """How true the thoughts of GR2's modes are, where the runs have looked: the mean of the seeds' means, from the
    lowest end of their intervals to the highest."""
    for name in gr2_modes(runs[0].scores):
        seeds = [row[TRUTH] for run in runs if TRUTH in (row := run.scores.probes.get(name, {}))]
        if len(seeds) == len(runs):
            yield Result(
                table=table,
                row=f"{name}, as served",
                metric=TRUTH,
                ours=sum(one.value for one in seeds) / len(seeds),
                low=min(one.low for one in seeds),
                high=max(one.high for one in seeds),
                n=sum(one.n for one in seeds),
            )


def _share(table: str, row: str, valid: int, n: int) -> Result:
    """Wilson's interval, since a bootstrap of n valid answers among n would claim to be certain."""
    bounds = binomtest(valid, n).proportion_ci(method="wilson")
    return Result(
        table=table, row=row, metric=VALID, ours=valid / n, low=float(bounds.low), high=float(bounds.high), n=n
    )


def cost(table: str, runs: Sequence[Finished]) -> Iterator[Result]:
    """Seconds and peak memory of every stage and of the whole. n counts runs; low and high are those of the seeds.

    A stage that was stopped and went on knows the seconds of its last try only: its run is left out of the seconds.
    """
    machines = sorted({record["device"] for run in runs for record in run.records.values()})
    more = {"machine": "; ".join(machines)}
    for row in (*runs[0].records, "whole run"):
        parts = [list(run.records.values()) if row == "whole run" else [run.records[row]] for run in runs]
        seconds = [sum(r["seconds"] for r in records) for records in parts if not any(r["resumed"] for r in records)]
        memory = [max(r["peak_memory_gb"] for r in records) for records in parts]
        if seconds:
            yield _over_seeds(table, row, "seconds", seconds, len(seconds), more)
        yield _over_seeds(table, row, "peak GB", memory, len(memory), more)


def _over_seeds(
    table: str, row: str, metric: str, values: Sequence[float], n: int, more: dict[str, Any] | None = None
) -> Result:
    return Result(
        table=table,
        row=row,
        metric=metric,
        ours=sum(values) / len(values),
        low=min(values),
        high=max(values),
        n=n,
        more=more or {},
    )


def write_results(docs: Path, table: str, runs: Sequence[Path], command: str) -> None:
    """Put the runs' rows in the place of those of `table` in `docs`/results.json, and write results.md from it."""
    finished = load_runs(runs)
    made = [result.as_json(len(finished), command) for result in results(table, finished)]
    put_rows(docs, _tables(table), made)


def put_rows(docs: Path, tables: Collection[str], made: Sequence[Mapping[str, Any]]) -> None:
    """Put rows in the place of all those of `tables` in `docs`/results.json, and write results.md from the whole."""
    path = docs / "results.json"
    kept = [row for row in (read_json(path) if path.exists() else []) if row["table"] not in tables]
    rows = sorted([*kept, *made], key=lambda row: row["table"])
    write_json(path, rows)
    (docs / "results.md").write_text(page(rows), encoding="utf-8")


def _tables(table: str) -> set[str]:
    return {table + suffix for suffix in SUFFIXES}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m gr2.evaluate.results", description=__doc__)
    parser.add_argument("--table", required=True, help="name of the table, for example nano")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    asked = parser.parse_args()
    command = shlex.join(["python", "-m", "gr2.evaluate.results", "--table", asked.table, *asked.runs])
    with in_one_line():
        write_results(Path("docs"), asked.table, [Path(run) for run in asked.runs], command)


if __name__ == "__main__":
    main()
