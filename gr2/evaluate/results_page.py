"""docs/results.md from the rows of docs/results.json: one section a table, rankers (or stages) down, metrics across."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from gr2.evaluate.headline import GR2, bare, label, p_text

MARGINS = "-margins"
"""Tables of relative changes end so."""
Row = Mapping[str, Any]
INTRO = """\
# Results

Made from [results.json](results.json) by `python -m gr2.evaluate.results`; do not edit. Below each value stands its
95 % interval, n counts slates (or events, items, answers, runs) of all seeds together. A seed is a whole run: its own
pre-ranker, slates, ids, teacher's draws and models. Seed N's run is made by
`gr2 run configs/NAME.toml --seed N`, on one thread; the command of the table then pools them.
`gr2 reproduce TABLE` runs that command again and compares. Stages of some of these runs were made by earlier
commits, so a run made today gives numbers within the intervals, not equal ones.

- **A table of metrics** is of the test slates that hold the target; **end-to-end** is of every held-out event, and
  one whose target was not retrieved counts 0. Values are means of the seeds' means. Rows named gr2 are GR2's modes.
- **Intervals and the pooled p** come from a bootstrap that draws users, each with all slates of all seeds, since the
  seeds share their users. The **p of each seed** is that of its own evaluation: McNemar for R@1, the bootstrap for
  all others.
- **margins** are changes relative to the incoming order; to the best legacy re-ranker, which each seed chooses on its
  own validation slates; to the best *single* one so chosen, leaving out the stack of all of them and the advice, which
  is GR2's own part (tables made before 2026-11-24 do not have it); to the one that is strongest on these test slates
  themselves, a choice that can only be against GR2; to the strongest single one; and where there are practice slates
  ([04-slates](04-slates.md)), to the strongest single one without these.
  The p is of these runs: the bootstrap draws people, not seeds. Holm's correction is over all modes and metrics
  against one of these. *Published* is the margin of P2 over its production order, on advertising logs that
  nobody else has: "yes" says only that ours is at least as large.
- **validity**: free answers are written out with nothing to hold them; as served, a ranking is read from one pass over
  the candidates. Wilson's interval, which takes answers as independent. Unique ids are counted over the whole
  catalogue: the range is that of the seeds. *Truth* is how much of its thoughts the log and the catalogue bear out
  ([rewards](rewards.md)): the seeds' mean, from the lowest end of their intervals to the highest.
- **cost**: the ranges are those of the seeds. Peak memory is the process's until the end of that stage, earlier
  stages of the same process included; a stage that was stopped and went on is left out of the seconds.
- **ablation**: the run without a component minus the full run of the same seed and slates, so what helps has a negative
  number. Holm's correction is over the components of one mode and metric; [ablation](ablation.md) says how.
- **distilled**, **words** and **opd**: single runs; [distilled](distilled.md) and [07-opd](07-opd.md) say what each row
  is. Numbers without a spread of their own have n = 1.
- **-sorted**: the Amazon sets with the events of one day in the alphabetical order in which they come; much of what is
  gained there is the alphabet ([ties](ties.md)).
- **sid-ablation**: semantic ids with and without each technique of P1, before any repair; ranges are those of the
  grid's single comparisons. [02-sids](02-sids.md) says how, and what *match* means.
"""


def page(rows: Sequence[Row]) -> str:
    """The whole page; the rows of a table stand together."""
    sections = [_section(table, list(group)) for table, group in groupby(rows, key=lambda row: row["table"])]
    return "\n".join([INTRO, *sections])


def _section(table: str, rows: Sequence[Row]) -> str:
    metrics, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("metric", "row"))
    cells = {(row["row"], row["metric"]): _cell(row) for row in rows}
    lines = [["", *metrics, "n", "seeds"], ["---", *["---:"] * (len(metrics) + 2)]]
    for name in names:
        counts = [_distinct(row[key] for row in rows if row["row"] == name) for key in ("n", "seeds")]
        lines.append([_bold(name), *(cells.get((name, metric), "") for metric in metrics), *counts])
    made = [f"Made by `{command}`." for command in dict.fromkeys(row["command"] for row in rows)]
    machines = [f"Machine: {m}." for m in dict.fromkeys(row["machine"] for row in rows if "machine" in row)]
    table_text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {table}\n\n{table_text}\n\n{' '.join(made + machines)}\n"


def _distinct(values: Any) -> str:
    return ", ".join(dict.fromkeys(f"{value:,}" for value in values))


def _bold(name: str) -> str:
    return f"**{label(name)}**" if name.startswith(GR2) else label(name)


def _cell(row: Row) -> str:
    """Value, interval; where there are any, p values and what was published."""
    show = _percent if row["table"].endswith(MARGINS) else _signed if "full" in row else _number
    lines = [show(row["ours"]), f"{show(row['low'])} to {show(row['high'])}"]
    if "p" in row:
        lines.append(f"{p_text(row['p'])}, Holm {bare(row['p_holm'])}")
    if row["seeds"] > 1 and "change_by_seed" in row:
        lines.append(f"seeds {', '.join(_percent(v) for v in row['change_by_seed'].values())}")
    if "p_by_seed" in row:
        lines.append(f"p of seeds {', '.join(map(bare, row['p_by_seed'].values()))}")
    if row["paper"] is not None:
        lines.append(f"published {show(row['paper'])}: {row['match']}")
    return "<br>".join(lines)


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _percent(value: float) -> str:
    return f"{value:+.1%}"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
