"""report.html: one self-contained page, made from a run's own files. Nothing is fetched when it is opened. (ours)"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from gr2.artifacts import CHECKPOINT, Rankings, Scores, Slates
from gr2.evaluate import plots
from gr2.evaluate.examples import examples
from gr2.evaluate.headline import (
    METRIC,
    PUBLISHED,
    beside_advice,
    correction,
    debiased,
    gr2_modes,
    headline,
    label,
    p_text,
    relative,
    served_mode,
)
from gr2.evaluate.html import grid, section, table
from gr2.evaluate.probes import moves
from gr2.evaluate.propensity import Examination
from gr2.evaluate.report_scores import (
    PROBES_NOTE,
    SLICES_NOTE,
    TABLE_NOTE,
    TRUTH_NOTE,
    colour,
    debiased_table,
    gains,
    probes_table,
    scores_table,
    slices,
    truth_table,
    unweighted,
    warnings,
)
from gr2.record import RECORD, is_complete, read_json, read_metrics
from gr2.types import Split

PROTOCOLS = {
    "given_target": ("When the target is in the slate", "{n:,} test slates whose target the pre-ranker retrieved."),
    "end_to_end": ("End to end", "All {n:,} held-out events; an event whose target was not retrieved counts 0."),
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
    scores, examined = Scores.load(evaluation), Examination.load(run / "04_slates")
    rankings = {file.parent.name: Rankings.load(file.parent) for file in evaluation.glob("*/rankings.parquet")}
    note = TABLE_NOTE.format(legacy=label(scores.best_legacy))
    sections: list[tuple[str, str, Iterable[str]]] = [
        *(
            (title, f"{words.format(n=_n(scores, p))} {note}", [scores_table(scores, p)])
            for p, (title, words) in PROTOCOLS.items()
        ),
        ("Debiased", *debiased_table(scores, examined)),
        ("Slices", SLICES_NOTE, slices(scores)),
        ("Probes", PROBES_NOTE.format(k=len(scores.target_at)), [probes_table(scores)]),
        ("How true thoughts are", TRUTH_NOTE, [truth_table(scores)]),
        ("Where the answers come from", MOVES, _heat_maps(scores, rankings)),
        ("Ablation", ABLATION, _ablation(run, scores)),
        ("Semantic ids", *_sids(run)),
        ("Training", "Faint: as logged; strong: running mean.", _training(run)),
        ("Ten slates", *_examples(run, scores, rankings)),
        ("Time", "Wall clock of each stage and the memory peak of its process.", _timing(run)),
    ]
    body = "\n".join([_head(run, scores, rankings, examined), *(section(*one) for one in sections)])
    page = Template((files("gr2.evaluate") / "page.html").read_text(encoding="utf-8"))
    out.write_text(page.substitute(title=escape(f"GR2 - {run.name}"), body=body), encoding="utf-8")


ADVICE = "advice"
MOVES = "Blue on the diagonal is the incoming order kept; a first column that is blue far down is a bold re-ranker."
ABLATION = "The run without a component minus the full run, with the 95 % interval: what helps stands left of zero."


def _n(scores: Scores, protocol: str) -> int:
    return scores.n_slates if protocol == "given_target" else scores.n_events


def _head(run: Path, scores: Scores, rankings: Mapping[str, Rankings], examined: Examination | None) -> str:
    """What a manager reads: the sentence, three margins, and every ranker's gains."""
    served = served_mode(scores)
    tiles = "".join(_tile(scores, served, metric) for metric in PUBLISHED) if served else ""
    sentence = escape(headline(scores)).replace("p &lt; ", "p&nbsp;&lt;&nbsp;").replace("p = ", "p&nbsp;=&nbsp;")
    notes = [correction(scores), debiased(scores), unweighted(examined), *warnings(scores)]
    if served and served in rankings and ADVICE in rankings and _hears_advice(run):
        notes.insert(1, beside_advice(rankings[served].rankings, rankings[ADVICE].rankings))
    return (
        f'<h1>GR2 report, run {escape(run.name)}</h1>\n<p class="lead">{sentence}</p>\n'
        + "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes if note)
        + f'<div class="tiles">{tiles}</div>\n{gains(scores)}'
    )


def _hears_advice(run: Path) -> bool:
    """False where what is served is a model alone."""
    meta = run / "10_direct" / CHECKPOINT
    return not meta.exists() or read_json(meta).get("advised", True)  # an older gr2 does not say


def _tile(scores: Scores, served: str, metric: str) -> str:
    rankers = scores.table["given_target"]
    mine, base = rankers[served][metric], rankers["incoming"][metric]
    change, p = relative(mine, base) or 0.0, mine.holm_incoming
    said = "" if p is None else f", {p_text(p)} after Holm"
    return (
        f'<div class="tile"><span>{metric}, {escape(label(served))} over the incoming order</span>'
        f'<b class="{colour(change, p)}">{change:+.1%}</b><span>{base.value:.3f} to {mine.value:.3f}'
        f"{escape(said)}</span><span>published: {PUBLISHED[metric]:+.1%} (P2)</span></div>"
    )


def _heat_maps(scores: Scores, rankings: dict[str, Rankings]) -> Iterator[str]:
    shown = [name for name in (served_mode(scores), scores.best_legacy) if name in rankings]
    yield grid((label(name), plots.heat_map(moves(rankings[name].rankings))) for name in shown)


def _ablation(run: Path, scores: Scores) -> Iterator[str]:
    """The forest of `gr2 ablate`, where the run has one: R@1 of the served mode."""
    file, served = run.parent / f"{run.name}-ablate" / "ablation.json", served_mode(scores)
    rows = [r for r in read_json(file)["rows"] if (r["mode"], r["metric"]) == (served, METRIC)] if file.exists() else []
    given = [r for r in rows if r["table"] == min((r["table"] for r in rows), key=len)]
    if given:
        names = [f"without {label(r['component'])}" for r in given]
        effects = {label(served or ""): [(r["ours"], r["low"], r["high"]) for r in given]}
        yield grid([(f"{METRIC}, {label(served or '')}", plots.forest(names, effects, f"change in {METRIC}"))])


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
    return note, [grid([("Items with a prefix of their own", plots.uniqueness(report["levels"]))]), table(head, rows)]


def _training(run: Path) -> Iterator[str]:
    pictures = []
    for folder, name, axis in PANELS:
        series = series_of(read_metrics(run / folder), name)
        if series:
            pictures.append((f"{folder}: {axis}", plots.curves(series, axis)))
    yield grid(pictures)


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
    ranker = names[-1]
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
