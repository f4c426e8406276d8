"""How much of what a model writes a smaller one can learn to write: P2 §5's 82 % at 5 % of the size, in words.

    python -m gr2.distill.words runs/nano

The teacher is a finished run's 08_rl. Students of 1/4 and 1/16 of its parameters are mid-trained from random weights as
the run's own model was, and learn from all kept traces by SFT, or by a cold start and on-policy distillation. Writes
RUN/distilled-words: a folder a student, made once, and words.json, rows in the form of docs/results.json; with --table,
they are put there too. All is measured on the test slates; nothing is chosen by them.
"""

from pathlib import Path

import torch
import typer

from gr2.distill.compare import TableOption, publish
from gr2.distill.students import Run, midtrained, smaller_starts
from gr2.distill.study import FIT, School, rows
from gr2.errors import in_one_line
from gr2.lm.memory import keep_freed_memory
from gr2.stages import s07_opd

OPD = s07_opd.Config.model_validate(
    {"cold_steps": 1500, "valid_slates": 0, "fit": FIT.model_copy(update={"steps": 2000, "learning_rate": 2e-3})}
)
SFT = OPD.model_copy(
    update={"objective": "sft", "fit": OPD.fit.model_copy(update={"steps": 3000, "learning_rate": 5e-3})}
)
"""As long, and at such a rate, as a sixteenth needs to write whole answers on validation slates (docs/07-opd.md)."""
METHODS = {"sft": SFT, "opd": OPD}


def students(run: Run) -> dict[str, Path]:
    """Name -> folder of every student; goes on where a stopped call was."""
    school, made = School(run=run), {}
    for size, start in smaller_starts(run, ()).items():
        middle = midtrained(run, f"midtrained-{size}", start)
        for method, config in METHODS.items():
            made[f"{method}-{size}"] = school.teach(f"{method}-{size}", middle, config)
    return made


def main(run: Path, table: TableOption = None) -> None:
    """Teach the smaller students of the finished run in folder RUN; goes on where a stopped call was."""
    of = Run(run=run, out=run / "distilled-words")
    with in_one_line():
        made = rows(of, table or f"{run.name}-words", students(of))
        publish(made, of.out / "words.json", f"python -m gr2.distill.words {run}", table)


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)  # sums in another order give other weights
    typer.run(main)
