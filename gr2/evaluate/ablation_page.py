"""The ablation as people read it: one self-contained page with a forest plot, and the table of the command line. (ours)

Both take rows as `ablation.compare` makes them, as JSON; of both protocols, they show the one given the target.
"""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from rich.table import Table

from gr2.evaluate import plots
from gr2.evaluate.headline import bare, label, p_text
from gr2.evaluate.html import grid
from gr2.evaluate.html import table as html_table

Row = Mapping[str, Any]
SERVED = ("gr2_direct", "gr2_thinking")
"""GR2's modes that are served; ablation.json has those in between too."""
METRICS = ("R@1", "R@3", "N@3", "N@5")
NOTE = (
    "Each component is removed alone, everything else and the budget stay as they are. Below zero: the run without it "
    "is worse, so the component helps. Lines are 95 % intervals of the paired difference, from a bootstrap over users, "
    "each with all slates of all seeds; p is paired, Holm's correction is over the components."
)


def served(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Mode -> its rows, target given, of the modes that are served."""
    tables = [row["table"] for row in rows]
    of_modes = {m: [r for r in rows if r["mode"] == m and r["table"] == min(tables, key=len)] for m in SERVED}
    return {mode: of for mode, of in of_modes.items() if of}


def page(rows: Sequence[Row], name: str, other_code: Sequence[str]) -> str:
    """The whole page."""
    modes = served(rows)
    # "p < .05" stays on one line.
    sentences = [escape(verdict(of, mode)).replace(" &lt; ", "&nbsp;&lt;&nbsp;") for mode, of in modes.items()]
    warned = ["Not all runs were made by the code of their full run:", *other_code] if other_code else []
    parts = [
        f"<h1>GR2 ablation, run {escape(name)}</h1>",
        f'<p class="lead">{sentences[0]}</p>',
        *(f"<p>{sentence}</p>" for sentence in sentences[1:]),
        f'<p class="note">{escape(NOTE)}</p>',
        f'<p class="note">{"<br>".join(map(escape, warned))}</p>' if warned else "",
        grid((metric, _forest(modes, metric)) for metric in METRICS),
        *(_table(of, mode) for mode, of in modes.items()),
    ]
    frame = Template((files("gr2.evaluate") / "page.html").read_text(encoding="utf-8"))
    return frame.substitute(title=escape(f"GR2 ablation - {name}"), body="\n".join(parts))


def verdict(rows: Sequence[Row], mode: str, metric: str = "R@1") -> str:
    """Which components matter to the mode beyond chance, in one sentence, whether it is good news or not."""
    of = [row for row in rows if row["metric"] == metric]
    beyond = [f"{label(row['component'])} ({row['ours']:+.3f})" for row in of if row["p_holm"] < 0.05]
    if beyond:
        said = f"Removing {', or '.join(beyond)} changes {metric} of {label(mode)} beyond chance"
        said += f"; the other {len(of) - len(beyond)} of {len(of)} removals do not"
    else:
        said = f"None of {len(of)} removals changes {metric} of {label(mode)} beyond chance"
    return f"{said} (p < .05 after Holm; {_size(of[0])})."


def _size(row: Row) -> str:
    return f"{row['n']:,} slates, {row['seeds']} seed{'s' * (row['seeds'] > 1)}"


def _forest(modes: Mapping[str, Sequence[Row]], metric: str) -> str:
    components = list(dict.fromkeys(row["component"] for of in modes.values() for row in of))
    series = {
        label(mode): [(row["ours"], row["low"], row["high"]) for row in of if row["metric"] == metric]
        for mode, of in modes.items()
    }
    return plots.forest([f"without {label(c)}" for c in components], series, f"change in {metric}")


def _table(rows: Sequence[Row], mode: str) -> str:
    head = [f"without ... ({_size(rows[0])})", *METRICS]
    full = {row["metric"]: f"<b>{row['full']:.3f}</b>" for row in rows}
    lines = [("full run", [full[metric] for metric in METRICS], "gr2")]
    for component, of in _by_component(rows).items():
        cells = [
            f"<b>{of[m]['ours']:+.3f}</b><small>{of[m]['low']:+.3f} to {of[m]['high']:+.3f}</small>"
            f'<small class="{_colour(of[m])}">{p_text(of[m]["p"])}, Holm {bare(of[m]["p_holm"])}</small>'
            for m in METRICS
        ]
        lines.append((escape(label(component)), cells, ""))
    return f"<h2>{escape(label(mode))}</h2>\n{html_table(head, lines)}"


def printed(rows: Sequence[Row], mode: str) -> Table:
    """One mode's table on the command line."""
    table = Table(
        title=f"{label(mode)} without ... ({_size(rows[0])})",
        caption="difference to the full run, its 95 % interval, paired p after Holm",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("component")
    for metric in METRICS:
        table.add_column(metric, justify="right", no_wrap=True)
    full = {row["metric"]: row["full"] for row in rows}
    table.add_row("[bold]full run[/]", *(f"{full[metric]:.3f}" for metric in METRICS), end_section=True)
    for component, of in _by_component(rows).items():
        table.add_row(label(component), *(_cell(of[metric]) for metric in METRICS), end_section=True)
    return table


def _cell(row: Row) -> str:
    colour, p = {"good": "green", "bad": "red"}.get(_colour(row), "dim"), bare(row["p_holm"])
    return f"{row['ours']:+.3f}\n[dim]{row['low']:+.3f} {row['high']:+.3f}[/]\n[{colour}]{p}[/]"


def _by_component(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Component -> metric -> row."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row["component"], {})[row["metric"]] = row
    return found


def _colour(row: Row) -> str:
    """Red where the run is worse without it, green where it is better, beyond chance."""
    return "" if row["p_holm"] >= 0.05 else "bad" if row["ours"] < 0 else "good"
