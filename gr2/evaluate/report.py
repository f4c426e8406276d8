"""report.html: one self-contained page, made from a run's own files. Nothing is fetched when it is opened. (ours)"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from gr2.artifacts import MetricValue, Rankings, Scores, Slates
from gr2.evaluate import plots
from gr2.evaluate.examples import examples
from gr2.evaluate.headline import GR2, PUBLISHED, best_mode, caveat, gr2_modes, headline, label, p_text, relative
from gr2.evaluate.probes import moves
from gr2.record import RECORD, is_complete, read_json, read_metrics
from gr2.types import Split

PROTOCOLS = {
    "given_target": ("When the target is in the slate", "{n} test slates whose target the pre-ranker retrieved."),
    "end_to_end": ("End to end", "All {n} held-out events; an event whose target was not retrieved counts 0."),
}
PANELS = (
    ("03_midtrain", "loss", "loss"),
    ("03_midtrain", "nats_per_item", "nats per item, validation"),
    ("06_sft", "loss", "loss"),
    ("06_sft", "r1", "R@1, validation"),
    ("08_rl", "reward", "reward"),
    ("08_rl", "r1", "R@1, validation"),
    ("10_direct", "reward", "reward"),
    ("10_direct", "r1", "R@1, validation"),
)
"""Stage, metric (or what its name starts with), and what the axis says."""


def write_report(run: Path, out: Path) -> None:
    """Write the page to `out`, beside summary.json and the rankers' folders that it shows.

    The stage calls this while its folder is still aside, so the evaluation is read from `out.parent` and the
    other stages from `run`. What a run has not made is left out. Raises UserError when there is no summary.json.
    """
    evaluation = out.parent
    scores = Scores.load(evaluation)
    rankings = {file.parent.name: Rankings.load(file.parent) for file in evaluation.glob("*/rankings.parquet")}
    sections: list[tuple[str, str, Iterable[str]]] = [
        *((title, note.format(n=_n(scores, p)), [_scores(scores, p)]) for p, (title, note) in PROTOCOLS.items()),
        ("Where the answers come from", MOVES, _heat_maps(scores, rankings)),
        ("Probes", PROBES, _probes(scores)),
        ("Semantic ids", *_sids(run)),
        ("Training", "Faint: as logged; strong: running mean.", _training(run)),
        ("Ten slates", *_examples(run, scores, rankings)),
        ("Time", "Wall clock of each stage and the memory peak of its process.", _timing(run)),
    ]
    body = "\n".join([_head(run, scores), *(_section(*section) for section in sections)])
    page = Template((files("gr2.evaluate") / "page.html").read_text(encoding="utf-8"))
    out.write_text(page.substitute(title=escape(f"GR2 - {run.name}"), body=body), encoding="utf-8")


MOVES = "Blue on the diagonal is the incoming order kept; a first column that is blue far down is a bold re-ranker."
PROBES = (
    "echo: answers equal to the incoming order; tail only: first three places kept, the rest moved; tau: Kendall's, "
    "to the incoming order; invalid: answers that were no ranking and fell back to it; shuffle: agreement when the "
    "same slates are shown in another order."
)


def _section(title: str, note: str, parts: Iterable[str]) -> str:
    inside = "\n".join(parts)
    return f'<h2>{escape(title)}</h2>\n<p class="note">{escape(note)}</p>\n{inside}' if inside else ""


def _n(scores: Scores, protocol: str) -> int:
    return scores.n_slates if protocol == "given_target" else scores.n_events


def _head(run: Path, scores: Scores) -> str:
    best = best_mode(scores)
    tiles = "".join(_tile(scores, best, metric) for metric in PUBLISHED) if best else ""
    sentence = escape(headline(scores)).replace("p &lt; ", "p&nbsp;&lt;&nbsp;").replace("p = ", "p&nbsp;=&nbsp;")
    return (
        f'<h1>GR2 report, run {escape(run.name)}</h1>\n<p class="lead">{sentence}</p>\n'
        f'<p class="note">{escape(caveat(scores))}</p>\n<div class="tiles">{tiles}</div>'
    )


def _tile(scores: Scores, best: str, metric: str) -> str:
    rankers = scores.table["given_target"]
    mine, base = rankers[best][metric], rankers["incoming"][metric]
    change = relative(mine, base) or 0.0
    colour = _colour(change, mine.p_incoming)
    return (
        f'<div class="tile"><span>{metric}, {escape(label(best))} over the incoming order</span>'
        f'<b class="{colour}">{change:+.1%}</b><span>{base.value:.3f} to {mine.value:.3f}, '
        f"{p_text(mine.p_incoming or 0.0)}</span><span>published: {PUBLISHED[metric]:+.1%} (P2)</span></div>"
    )


def _colour(change: float, p: float | None) -> str:
    """Green or red only for what is significant."""
    if p is None or p >= 0.05 or change == 0:
        return ""
    return "good" if change > 0 else "bad"


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str], str]]) -> str:
    """A table in a box of its own that scrolls; rows are (first cell, other cells, class), all HTML already."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f'<tr class="{kind}"><th>{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, cells, kind in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _scores(scores: Scores, protocol: str) -> str:
    rankers = scores.table[protocol]
    base = rankers["incoming"]
    rows = []
    for name, row in rankers.items():
        mark = "<small>best legacy, by validation</small>" if name == scores.best_legacy else ""
        cells = [_cell(value, base[metric]) for metric, value in row.items()]
        rows.append((escape(label(name)) + mark, cells, "gr2" if name.startswith(GR2) else ""))
    return table(["ranker", *base], rows)


def _cell(value: MetricValue, base: MetricValue) -> str:
    """Value, 95 % interval, change to the incoming order and its p."""
    cell = f"<b>{value.value:.3f}</b><small>{value.low:.3f} to {value.high:.3f}</small>"
    change = relative(value, base)
    if value.p_incoming is None or change is None:
        return cell
    return f'{cell}<small class="{_colour(change, value.p_incoming)}">{change:+.1%}, {p_text(value.p_incoming)}</small>'


def _heat_maps(scores: Scores, rankings: dict[str, Rankings]) -> Iterator[str]:
    shown = [name for name in (best_mode(scores), scores.best_legacy) if name in rankings]
    yield _grid((label(name), plots.heat_map(moves(rankings[name].rankings))) for name in shown)


def _grid(pictures: Iterable[tuple[str, str]]) -> str:
    figures = "".join(f"<figure><figcaption>{escape(t)}</figcaption>{picture}</figure>" for t, picture in pictures)
    return f'<div class="grid">{figures}</div>' if figures else ""


def _probes(scores: Scores) -> Iterator[str]:
    names = list(dict.fromkeys(probe for values in scores.probes.values() for probe in values))
    if names:
        yield table(
            ["ranker", *(name.replace("_", " ").removesuffix(" share") for name in names)],
            (
                (
                    escape(label(ranker)),
                    [_number(values.get(name)) for name in names],
                    "gr2" if ranker.startswith(GR2) else "",
                )
                for ranker, values in scores.probes.items()
            ),
        )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _sids(run: Path) -> tuple[str, list[str]]:
    folder = run / "02_sids"
    if not is_complete(folder):
        return "", []
    report = read_json(folder / "report.json")
    note = (
        f"{report['n_items']} items; {report['unique_share_before']:.1%} had an id of their own before the assignment "
        f"of last codes, {report['unique_share']:.1%} after."
    )
    rows = [
        (
            f"level {number}",
            [
                f"{level['distinct_prefixes']}",
                f"{level['usage']:.1%} of {level['size']}",
                f"{level['perplexity']:.1f}",
                f"{level['reconstruction_error']:.1%}",
            ],
            "",
        )
        for number, level in enumerate(report["levels"], 1)
    ]
    head = ["", "distinct prefixes", "codes used", "perplexity", "variance left"]
    return note, [_grid([("Items with a prefix of their own", plots.uniqueness(report["levels"]))]), table(head, rows)]


def _training(run: Path) -> Iterator[str]:
    pictures = []
    for folder, name, axis in PANELS:
        series = series_of(read_metrics(run / folder), name)
        if series:
            pictures.append((f"{folder}: {axis}", plots.curves(series, axis)))
    yield _grid(pictures)


def series_of(rows: Sequence[dict[str, Any]], name: str) -> dict[str, list[tuple[float, float]]]:
    """The curves of the metric `name`, or of all whose name goes on with `_`: one a phase and metric."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for metric, value in row.items():
            if metric == name or (name == "r1" and metric.startswith("r1_")):
                curve = metric.removeprefix("r1_") if metric != name else str(row.get("phase", name))
                series.setdefault(curve, []).append((row["step"], value))
    return {curve: sorted(points) for curve, points in series.items()}


def _examples(run: Path, scores: Scores, rankings: dict[str, Rankings]) -> tuple[str, list[str]]:
    modes = [rankings[name] for name in gr2_modes(scores) if name in rankings]
    thinking = [mode for mode in modes if any(r.thought for r in mode.rankings)]
    names = [mode.ranker for mode in thinking or modes]
    if not names or not is_complete(run / "04_slates"):
        return "", []
    ranker = max(reversed(names), key=lambda name: scores.table["given_target"][name]["R@1"].value)
    tests = Slates.load(run / "04_slates").split(Split.TEST)
    note = f"Drawn at random from the test slates, not chosen; ranked by {label(ranker)}. The target is green."
    return note, list(examples(run, tests, rankings[ranker]))


def _timing(run: Path) -> Iterator[str]:
    records = {f.parent.name: read_json(f) for f in sorted(run.glob(f"*/{RECORD}"))}
    rows = [
        (name, [f"{r['seconds']:.1f} s", f"{r['peak_memory_gb']:.1f} GB", str(r["git_commit"])], "")
        for name, r in records.items()
    ]
    if rows:
        rows.append(("all", [f"{sum(r['seconds'] for r in records.values()):.1f} s", "", ""], ""))
        yield table(["stage", "time", "peak memory", "commit"], rows)
