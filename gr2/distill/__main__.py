"""Make the smaller models of a finished run, and the table of what they are worth.

    python -m gr2.distill runs/nano

writes RUN/distilled: one folder a student, made once, and distilled.json, rows in the form of docs/results.json.
"""

import sys
from pathlib import Path

import torch
import typer

from gr2.distill.compare import contestants, rows
from gr2.distill.students import Run, make_students
from gr2.errors import UserError
from gr2.evaluate.results_page import INTRO, page
from gr2.lm.memory import keep_freed_memory
from gr2.record import write_json


def main(run: Path, table: str = "nano-distilled") -> None:
    """Distil the finished run in folder RUN; goes on where a stopped call was."""
    of = Run(run=run, out=run / "distilled")
    try:
        made = rows(of, table, contestants(of, list(make_students(of))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    as_json = [row.as_json(1, f"python -m gr2.distill {run}") for row in made]
    write_json(of.out / "distilled.json", as_json)
    print(page(sorted(as_json, key=lambda row: row["table"])).removeprefix(INTRO))


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)  # milliseconds are of one thread, and sums in another order give other weights
    typer.run(main)
