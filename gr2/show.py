"""What the command line prints: the stages and what runs hold, the main table, a slate before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from gr2.artifacts import MetricValue, Scores
from gr2.evaluate.headline import GR2, label, p_text, relative
from gr2.record import RECORD, is_complete, read_json
from gr2.run import CONFIG, STAGES, about, duration, folder_of
from gr2.types import Item, Ranking, Slate

EVALUATION = folder_of(STAGES[-1])
REPORT = "report.html"
PROTOCOLS = {
    "given_target": "target in the slate",
    "end_to_end": "end to end (a target not retrieved counts 0)",
    "debiased": "target in the slate, clicks weighted by how likely their places are looked at",
}
METRICS = ("R@1", "R@3", "N@3", "N@5")
"""As P2 reports them, and as many as 80 columns hold."""
WORDS, CELL = 50, 22
"""Columns that a stage's name and description take at least, and those of a run."""


def runs_below(folder: Path) -> list[Path]:
    """The run folders, newest first."""
    found = [path for path in folder.glob("*") if (path / CONFIG).exists()]
    return sorted(found, key=lambda path: (path / CONFIG).stat().st_mtime, reverse=True)


def overview(runs: Sequence[Path], width: int) -> Table:
    """One line a stage: what it does, and for every run whether it is there, its seconds and its size.

    Of `runs`, newest first, those that `width` columns hold, and one at least; the others are named below.
    """
    shown = max(1, (width - WORDS) // CELL)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("stage", no_wrap=True)
    table.add_column("what it does", ratio=1)
    for run in runs[:shown]:
        table.add_column(escape(run.name), no_wrap=True)
    for stage in STAGES:
        cells = [state(run / folder_of(stage)) for run in runs[:shown]]
        table.add_row(folder_of(stage), escape(about(stage)), *cells)
    if runs[shown:]:
        table.caption = escape(f"older runs: {', '.join(run.name for run in runs[shown:])}")
    return table


def state(folder: Path) -> str:
    """`12.1 s, 3.4 MB` of a complete stage, `half-written`, or `-`."""
    if is_complete(folder):
        return f"[green]{duration(read_json(folder / RECORD)['seconds'])}, {size(folder)}[/]"
    half = folder.with_name(folder.name + ".partial").exists() or folder.exists()
    return "[yellow]half-written[/]" if half else "[dim]-[/]"


def size(folder: Path) -> str:
    """Of all files below the folder: `340 kB`, `3.4 MB`."""
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.1f} MB" if total >= 1e6 else f"{total / 1e3:.0f} kB"


def next_step(runs: Sequence[Path]) -> str:
    """What to do next, in one line, about the newest run."""
    if not runs:
        return "no runs yet; the demo: gr2 run configs/nano.toml; your own data: gr2 new --help"
    run = runs[0]
    todo = [folder_of(s) for s in STAGES if not is_complete(run / folder_of(s))]
    if todo:
        return f"go on from {todo[0]}: gr2 run {run / CONFIG} --run {run}"
    return f"{run} is complete; look: {run / EVALUATION / REPORT}, serve: gr2 serve {run / '11_bundle'}"


def main_table(scores: Scores, protocol: str) -> Table:
    """One row a ranker: value, 95 % interval, change to the incoming order and its p; the report has all metrics."""
    rankers = scores.table[protocol]
    n = rankers["incoming"][METRICS[0]].n
    table = Table(title=f"{PROTOCOLS.get(protocol, protocol)}, n = {n}", title_justify="left", header_style="bold")
    table.caption = "95 % interval below each value, then the change to the incoming order and its paired p"
    table.add_column("ranker")
    for metric in METRICS:
        table.add_column(metric, justify="right", no_wrap=True)
    for ranker, row in rankers.items():
        mark = "\n[dim not bold]best legacy[/]" if ranker == scores.best_legacy else ""
        cells = [cell(row[metric], rankers["incoming"][metric]) for metric in METRICS]
        table.add_row(
            f"{escape(label(ranker))}{mark}", *cells, style="bold" if ranker.startswith(GR2) else "", end_section=True
        )
    return table


def cell(value: MetricValue, incoming: MetricValue) -> str:
    """Three short lines of one table cell."""
    lines = f"{value.value:.3f}\n[dim not bold]{value.low:.3f}-{value.high:.3f}[/]"
    change = relative(value, incoming)
    if value.p_incoming is None or change is None:
        return lines
    colour = ("green" if change > 0 else "red") if value.p_incoming < 0.05 else "dim not bold"
    p = p_text(value.p_incoming).removeprefix("p ").removeprefix("= ").replace(" ", "")
    return f"{lines}\n[{colour}]{change:+.1%} {p}[/]"


def before_after(slate: Slate, ranking: Ranking, items: Mapping[str, Item]) -> Table:
    """The candidates as they came in and as they go out; the target in bold."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("", "incoming order", "re-ranked", "was"):
        table.add_column(name)
    for place, after in enumerate(ranking.order):
        titles = [_title(slate, c, items) for c in (place, after)]
        move = "" if after == place else f"{'↑' if after > place else '↓'} {after + 1}"
        table.add_row(str(place + 1), *titles, move)
    return table


def _title(slate: Slate, candidate: int, items: Mapping[str, Item]) -> str:
    title = escape(items[slate.candidates[candidate]].title)
    return f"[bold green]{title} ◂[/]" if slate.gains[candidate] else title


def titles(item_ids: Sequence[str], items: Mapping[str, Item]) -> str:
    """On one line; separated by dots, since a title can hold a comma."""
    return " · ".join(escape(items[i].title) for i in item_ids)
