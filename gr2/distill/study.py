"""SFT against on-policy distillation, at equal compute, as traces grow: what P2 §5 asserts and does not show.

    python -m gr2.distill.study runs/nano

All start from the mid-trained model of a finished run and learn from the same kept traces: SFT as 06_sft learns their
words; forward KL what the teacher, the run's 08_rl, would write at each of them; OPD by a cold start of forward KL and
then on what it writes itself, with reward and reverse KL or by the reverse KL alone. Their steps are such that all take
about as many CPU seconds, which the table tells. Writes RUN/opd-study: a folder a student, made once,
and study.json, rows in the form of docs/results.json; with --table, they are put there too. All is measured on the
test slates; nothing is chosen by them.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import typer

from gr2.artifacts import Slates, Traces
from gr2.baselines.simple import rank_incoming
from gr2.distill.compare import INCOMING, METRICS, TableOption, averaged, publish, share_of_gain
from gr2.distill.opd import roll_out, written_logprobs
from gr2.distill.students import Run
from gr2.distill.teachers import Teacher, in_process
from gr2.errors import in_one_line
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.results import Result
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.memory import keep_freed_memory
from gr2.lm.rank import rank_by_thinking, rank_by_writing
from gr2.lm.train import FitConfig
from gr2.record import RECORD, StageFolder, read_json
from gr2.reward.truth import Witness
from gr2.stages import s03_midtrain, s07_opd
from gr2.types import AnswerStatus, Ranking, Slate, Split, Trace

TRACES = (100, 1000, None)
"""Kept traces that are learned from; None: all."""
FIT = FitConfig(steps=300, batch_size=8, learning_rate=1e-3, warmup_steps=10, dropout=0.1)
OPD = s07_opd.Config.model_validate({"cold_steps": 150, "valid_slates": 0, "fit": FIT})
SFT = OPD.model_copy(update={"objective": "sft", "fit": FIT.model_copy(update={"steps": 510})})
"""A step of SFT takes half the time of one on policy, three quarters of one of forward KL."""
FORWARD_KL = OPD.model_copy(update={"objective": "forward_kl", "fit": FIT.model_copy(update={"steps": 375})})
METHODS = {
    "sft": SFT,
    "forward kl": FORWARD_KL,
    "reverse kl": OPD.model_copy(update={"objective": "reverse_kl"}),
    "opd": OPD,
}
TEACHER = "teacher"
ASKED = 256
"""Test slates that the students roll out once for the reverse KL."""


@dataclass(frozen=True, kw_only=True)
class School:
    """Teaches students to think as a finished run's 08_rl does, on its kept traces."""

    run: Run

    @cached_property
    def slates(self) -> Slates:
        return Slates.load(self.run.run / "05_traces")

    @cached_property
    def kept(self) -> tuple[Trace, ...]:
        return Traces.load(self.run.run / "05_traces").kept()

    @cached_property
    def teacher(self) -> Teacher:
        return in_process(self.run.checkpoint(self.run.run / "08_rl").model)

    def teach(self, name: str, middle: Path, config: s07_opd.Config) -> Path:
        """The folder of the mid-trained model in `middle`, taught so; made once."""
        inputs = [middle, self.run.run / "05_traces", self.run.run / "08_rl"]
        return self.run.make(name, config.model_dump(), inputs, partial(self._taught, middle, config))

    def _taught(self, middle: Path, config: s07_opd.Config, work: StageFolder) -> Checkpoint:
        slates, kept, teacher = self.slates, self.kept, self.teacher
        sft = s07_opd.sft_config(self.run.run / "06_sft")
        student, start = self.run.checkpoint(middle), time.process_time()
        s07_opd.opd(student, teacher, slates, kept, config, sft, self.run.seed, work)
        if not work.resumed:  # else it would be the seconds of the last try only
            work.counts["cpu_seconds"] = round(time.process_time() - start, 3)
        work.counts["parameters"] = student.model.num_parameters()
        return student


def students(run: Run) -> dict[str, Path]:
    """Name -> folder of every student; goes on where a stopped call was."""
    school, made = School(run=run), {}
    n_kept = len(school.kept)
    for n in TRACES:
        for method, config in METHODS.items():
            if n is None or n < n_kept:
                name = f"{method}, {n or n_kept} traces"
                given = config.model_copy(update={"traces": n})
                folder = name.replace(", ", "-").replace(" ", "-")
                made[name] = school.teach(folder, run.run / "03_midtrain", given)
    return made


def rows(run: Run, table: str, made: Mapping[str, Path]) -> list[Result]:
    """Of the incoming order, the teacher and every student: what its answers are worth, and what it has forgotten."""
    test = Slates.load(run.run / "05_traces").split(Split.TEST)
    users = np.array([s.user_id for s in test])
    incoming = per_slate(test, rank_incoming(test))
    found = [averaged(table, INCOMING, f"{m}, written", incoming[m], users) for m in METRICS]
    start = s03_midtrain.validation_nats(run.checkpoint(run.run / "03_midtrain"), run.corpus)
    found.append(fact(table, "mid-trained", "nats an item", start["nats_per_item"]))
    teacher = run.checkpoint(run.run / "08_rl")
    witness = Witness.of(run.corpus, teacher.renderer)
    theirs = written_by(teacher, test, TEACHER)
    found += worth(run, table, TEACHER, teacher, teacher, test, theirs, witness)
    gained = per_slate(test, theirs)
    for name, folder in made.items():
        student = run.checkpoint(folder)
        ours = written_by(student, test, name)
        found += worth(run, table, name, student, teacher, test, ours, witness)
        value = per_slate(test, ours)
        for m in METRICS:
            found += kept_gain(table, name, m, value[m] - incoming[m], gained[m] - incoming[m], users)
        counts = read_json(folder / RECORD)["counts"]
        if "cpu_seconds" in counts:
            found.append(fact(table, name, "CPU seconds", counts["cpu_seconds"]))
    return found


def kept_gain(
    table: str, name: str, metric: str, ours_n: np.ndarray, theirs_n: np.ndarray, users: np.ndarray
) -> list[Result]:
    """What share of the teacher's gain over the incoming order a student's is; nothing where the teacher has none."""
    share = share_of_gain(ours_n, theirs_n, users)
    if share is None:
        return []
    low, value, high = share
    told = f"share of the teacher's gain, {metric}, written"
    return [Result(table=table, row=name, metric=told, ours=value, low=low, high=high, n=len(users))]


def written_by(student: Checkpoint, slates: Sequence[Slate], name: str) -> list[Ranking]:
    """Its free answers."""
    return rank_by_writing(student, slates, constrained=False, budget=Budget(), label=f"{name}, written")


def worth(
    run: Run,
    table: str,
    name: str,
    student: Checkpoint,
    teacher: Checkpoint,
    test: Sequence[Slate],
    written: Sequence[Ranking],
    witness: Witness,
) -> list[Result]:
    """What is `written_by` the student (an invalid answer counts as the incoming order), the same thoughts read in one
    pass, how often it is valid or only echoes, how true its thoughts are, how far it is from the teacher on its own
    rollouts, and what it still knows of items."""
    behind = rank_by_thinking(student, test, budget=Budget(), label=f"{name}, one pass")
    users = np.array([s.user_id for s in test])
    by_writing, by_thinking = per_slate(test, written), per_slate(test, behind)
    true_n = np.array([truth.total for truth in witness.check(test, [r.thought for r in written])])
    valid_n = np.array([r.status is AnswerStatus.VALID for r in written])
    echo_n = np.array([list(r.order) == sorted(r.order) for r in written])
    torch.manual_seed(run.seed)
    with torch.no_grad():
        drawn = roll_out(student, test[:ASKED], 1, Budget().thought)
        ours, theirs = (written_logprobs(one.model, drawn.prompts, drawn.written).cpu() for one in (student, teacher))
    off_n = ((ours - theirs).sum(1) / drawn.counts.sum(1)).double().numpy()
    nats = s03_midtrain.validation_nats(student, run.corpus)["nats_per_item"]
    return [
        *(averaged(table, name, f"{m}, written", by_writing[m], users) for m in METRICS),
        *(averaged(table, name, f"{m}, one pass", by_thinking[m], users) for m in METRICS),
        averaged(table, name, "valid", valid_n.astype(float), users),
        averaged(table, name, "truth", true_n, users),
        *([averaged(table, name, "echo", echo_n[valid_n].astype(float), users[valid_n])] if valid_n.any() else []),
        averaged(table, name, "reverse KL a token", off_n, users[: len(off_n)]),
        fact(table, name, "distinct thoughts", len({r.thought for r in written}) / len(test)),
        fact(table, name, "nats an item", nats),
    ]


def fact(table: str, row: str, metric: str, value: float) -> Result:
    """A number of one model, without an interval."""
    return Result(table=table, row=row, metric=metric, ours=value, low=value, high=value, n=1)


def main(run: Path, table: TableOption = None) -> None:
    """Teach the students of the finished run in folder RUN; goes on where a stopped call was."""
    of = Run(run=run, out=run / "opd-study")
    with in_one_line():
        made = rows(of, table or f"{run.name}-opd", students(of))
        publish(made, of.out / "study.json", f"python -m gr2.distill.study {run}", table)


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)  # sums in another order give other weights
    typer.run(main)
