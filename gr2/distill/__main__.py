"""Make the smaller models of a finished run, and the table of what they are worth.

    python -m gr2.distill runs/nano

writes RUN/distilled: one folder a student, made once, and distilled.json, rows in the form of docs/results.json; with
--table, they are put there too. A run that started from a pretrained model has students of fewer layers, and of every
smaller pretrained model that is named by --student.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from gr2.distill.compare import TableOption, contestants, publish, rows
from gr2.distill.students import Run, make_students
from gr2.errors import in_one_line
from gr2.lm.memory import keep_freed_memory

StudentOption = Annotated[list[str] | None, typer.Option(help="A smaller pretrained model, as [midtrain] names it.")]


def main(run: Path, student: StudentOption = None, table: TableOption = None) -> None:
    """Distil the finished run in folder RUN; goes on where a stopped call was."""
    of, smaller = Run(run=run, out=run / "distilled"), student or []
    command = " ".join([f"python -m gr2.distill {run}", *(f"--student {name}" for name in smaller)])
    with in_one_line():
        made = rows(of, table or f"{run.name}-distilled", contestants(of, list(make_students(of, smaller))))
        publish(made, of.out / "distilled.json", command, table)


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)  # milliseconds are of one thread, and sums in another order give other weights
    typer.run(main)
