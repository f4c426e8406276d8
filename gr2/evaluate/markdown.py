"""The main table as Markdown: `python -m gr2.evaluate.markdown runs/nano README.md` puts it between the markers."""

import sys
from pathlib import Path

from gr2.artifacts import MetricValue, Scores
from gr2.errors import UserError
from gr2.evaluate.headline import GR2, headline, label, p_text, relative

MARKER = "<!-- demo-table -->"
RANKERS = ("incoming", "popularity", "lambdamart", "dcn", "prm", "advice", "stack", "gr2_thinking", "gr2_direct")
METRICS = ("R@1", "R@3", "N@3")
"""What a reader of a README wants; the report has all."""


def markdown(scores: Scores) -> str:
    """The sentence, and a table given the target: value, 95 % interval, change to the incoming order and its p."""
    rankers = {name: row for name, row in scores.table["given_target"].items() if name in RANKERS}
    base = {metric: rankers["incoming"][metric] for metric in METRICS}
    rows = [
        [f"**{label(name)}**" if name.startswith(GR2) else label(name), *(_cell(row[m], base[m]) for m in base)]
        for name, row in rankers.items()
    ]
    head = [f"n = {scores.n_slates}", *base]
    lines = [head, ["---", *("---:" for _ in base)], *rows]
    return headline(scores) + "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: MetricValue, base: MetricValue) -> str:
    cell = f"{value.value:.3f}<br>{value.low:.3f}-{value.high:.3f}"
    change = relative(value, base)
    if value.p_incoming is None or change is None:
        return cell
    return f"{cell}<br>{change:+.1%}, {p_text(value.p_incoming)}"


def fill(text: str, table: str) -> str:
    """`text` with `table` between its two markers. Raises UserError when it has not exactly two."""
    parts = text.split(MARKER)
    if len(parts) != 3:
        raise UserError(f"{MARKER} stands {len(parts) - 1} times; put it before and after the place of the table")
    return MARKER.join([parts[0], f"\n{table}\n", parts[2]])


if __name__ == "__main__":
    run, readme = map(Path, sys.argv[1:])
    table = markdown(Scores.load(run / "13_evaluate"))
    readme.write_text(fill(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
