"""Thinking distilled away, as one table: what each step from the thinking model to a small one costs and saves.

All models rank the same slates. The hard subset are the test slates on which thinking changed what comes first: the
thinking RL's model names another candidate than with its thought cut off (P2 measures what is lost on such a subset).
Where the served model hears advice, it and the students are asked once more alone: advice ranks well without any model,
and what a small one keeps of the model's own gain would not be seen.
Intervals come from a bootstrap that draws users, those of differences are paired. Shapes: n slates, D draws.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import quantiles
from typing import Annotated

import numpy as np
import typer

from gr2.baselines.simple import rank_by_advice, rank_incoming
from gr2.distill.students import Run
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.results import Result, put_rows
from gr2.evaluate.results_page import INTRO, page
from gr2.evaluate.significance import bootstrap_means, interval
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_thinking, rank_by_writing, rank_in_one_pass
from gr2.prompt.render import END, END_THINK
from gr2.record import write_json
from gr2.stages.s10_direct import weigh
from gr2.types import Ranking, Slate, Split

INCOMING, THINKING, DIRECT = "incoming", "thinking", "direct"
BEFORE, WRITTEN, CUT_OFF = "thinking, before the pass", "thinking, written", "thought cut off"
WRITTEN_AT_ONCE = "thought cut off, written"
ADVICE, ALONE = "advice", ", alone"
"""The advice without a model, and how the name of a model without advice ends."""
METRICS = ("R@1", "N@3")
TableOption = Annotated[str | None, typer.Option(help="Also put the rows into docs/results.json as this table.")]
CALLS = 60
"""One-slate calls that the milliseconds are the median of."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model is asked."""

    rank: Callable[[Checkpoint, Sequence[Slate], str | None], list[Ranking]]
    said: Callable[[Checkpoint, Ranking], str]
    """What it wrote for a ranking."""


THINK_FIRST = Way(
    rank=lambda model, slates, label: rank_by_thinking(model, slates, budget=Budget(), label=label),
    said=lambda _, ranking: ranking.thought.partition("[")[0],
)
WRITE_ALL = Way(
    rank=lambda model, slates, label: rank_by_writing(model, slates, constrained=True, budget=Budget(), label=label),
    said=lambda model, ranking: ranking.thought + END_THINK + model.renderer.answer(ranking.order) + END,
)
WRITE_AT_ONCE = Way(
    rank=lambda model, slates, label: rank_by_writing(
        model, slates, constrained=True, budget=Budget(thought=0), label=label
    ),
    said=lambda model, ranking: END_THINK + model.renderer.answer(ranking.order) + END,
)
AT_ONCE = Way(
    rank=lambda model, slates, label: rank_in_one_pass(model, slates, batch_size=64, label=label),
    said=lambda *_: "",
)


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One model, asked one way, and what came of it."""

    name: str
    parameters: float
    valid: list[Ranking]
    test: list[Ranking]
    tokens: np.ndarray
    """(n,) written for each test slate."""
    milliseconds: tuple[float, float, float]
    """Of CPU time a slate, asked one by one: lower quartile, median, upper quartile."""


def contestants(run: Run, students: Sequence[str]) -> list[Contestant]:
    """Ask the served model both ways, the thinking RL's before it, and the students, each a folder of `run.out`."""
    served, before = run.direct, run.checkpoint(run.run / "08_rl")
    made = [
        asked(run, THINKING, served, THINK_FIRST),
        asked(run, BEFORE, before, THINK_FIRST),
        asked(run, WRITTEN, before, WRITE_ALL),
        asked(run, CUT_OFF, before, AT_ONCE),
        asked(run, WRITTEN_AT_ONCE, before, WRITE_AT_ONCE),
        *asked_at_once(run, DIRECT, served),
    ]
    for name in students:  # one student in memory at a time
        made += asked_at_once(run, name, run.checkpoint(run.out / name))
    return sorted(made, key=lambda one: one.name.endswith(ALONE))


def asked_at_once(run: Run, name: str, model: Checkpoint) -> list[Contestant]:
    """The model as it is, and alone where the served model hears advice."""
    by_itself = [asked(run, name + ALONE, alone(run, model), AT_ONCE)] if run.direct.renderer.advised else []
    return [asked(run, name, model, AT_ONCE), *by_itself]


def alone(run: Run, model: Checkpoint) -> Checkpoint:
    """The model without advice, its own voices weighed by the validation slates as with it."""
    return weigh(model.alone(), run.slates.split(Split.VALID))


def asked(run: Run, name: str, model: Checkpoint, way: Way) -> Contestant:
    valid, test = (run.slates.split(split) for split in (Split.VALID, Split.TEST))
    rankings = way.rank(model, test, f"{name}, test")
    said = [way.said(model, ranking) for ranking in rankings]
    return Contestant(
        name=name,
        parameters=float(model.model.num_parameters()),
        valid=way.rank(model, valid, f"{name}, validation"),
        test=rankings,
        tokens=np.array([len(t) for t in model.tokenizer(said, add_special_tokens=False)["input_ids"]]),
        milliseconds=timed(lambda slates: way.rank(model, slates, None), test[:CALLS]),
    )


def timed(rank: Callable[[Sequence[Slate]], object], slates: Sequence[Slate]) -> tuple[float, float, float]:
    """Quartiles of the CPU time of one-slate calls, in ms: what a call takes by the clock where one thread has a core
    to itself."""
    spent = []
    rank(slates[:1])
    for slate in slates:
        start = time.process_time()
        rank([slate])
        spent.append(1000 * (time.process_time() - start))
    low, middle, high = quantiles(spent, n=4)
    return low, middle, high


def rows(run: Run, table: str, models: Sequence[Contestant]) -> list[Result]:
    """Of two tables: what each model is worth and costs, and its paired differences (table-differences)."""
    by_name = {one.name: one for one in models}
    test = list(run.slates.split(Split.TEST))
    hard_n = np.array(
        [a.order[0] != b.order[0] for a, b in zip(by_name[BEFORE].test, by_name[CUT_OFF].test, strict=True)]
    )
    plain = {INCOMING: rank_incoming(test)}
    if any(one.name.endswith(ALONE) for one in models):
        plain[ADVICE] = rank_by_advice(test)
    values = {one.name: per_slate(test, one.test) for one in models}
    values |= {name: per_slate(test, rankings) for name, rankings in plain.items()}
    judge = Judge(table=table, slates=test, hard_n=hard_n, values=values)
    valid = run.slates.split(Split.VALID)
    valid_users = np.array([s.user_id for s in valid])
    made = [row for name in plain for metric in METRICS for row in judge.means(name, metric)]
    made += [row for name in plain if name != INCOMING for m in METRICS for row in judge.differences(name, m)]
    for one in models:
        tried = per_slate(valid, one.valid)
        made += [judge.row(one.name, f"{m}, validation", tried[m], valid_users) for m in METRICS]
        made += [row for metric in METRICS for row in judge.means(one.name, metric)]
        made.append(judge.cost(one.name, "parameters", one.parameters, one.parameters, one.parameters))
        made.append(judge.row(one.name, "tokens", one.tokens, judge.users))
        low, middle, high = one.milliseconds
        made.append(judge.cost(one.name, "milliseconds", low, middle, high))
        made += [row for metric in METRICS for row in judge.differences(one.name, metric)]
    return made


def averaged(table: str, row: str, metric: str, value_n: np.ndarray, users: np.ndarray) -> Result:
    """The mean of (n,) values of slates, and its interval over their users."""
    low, high = interval(bootstrap_means(value_n[:, None], users.tolist())[:, 0])
    return Result(table=table, row=row, metric=metric, ours=float(value_n.mean()), low=low, high=high, n=len(users))


def share_of_gain(ours_n: np.ndarray, theirs_n: np.ndarray, users: np.ndarray) -> tuple[float, float, float] | None:
    """Low end, value and high end of how much of another model's gain one keeps, both as differences of slates to the
    incoming order; None where the interval of what it is a share of holds 0."""
    draws = bootstrap_means(np.stack([ours_n, theirs_n], 1), users.tolist())
    if interval(draws[:, 1])[0] <= 0:
        return None
    low, high = interval(draws[:, 0] / draws[:, 1])
    return low, float(ours_n.mean() / theirs_n.mean()), high


def publish(made: Sequence[Result], path: Path, command: str, table: str | None) -> None:
    """Write the rows to `path` and print them; with a table's name, put them into docs/results.json too."""
    again = f"{command} --table {table}" if table else command
    as_json = sorted((row.as_json(1, again) for row in made), key=lambda row: row["table"])
    write_json(path, as_json)
    if table:
        put_rows(Path("docs"), {row["table"] for row in as_json}, as_json)
    print(page(as_json).removeprefix(INTRO))


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Means and paired differences on the test slates."""

    table: str
    slates: Sequence[Slate]
    hard_n: np.ndarray
    values: Mapping[str, Mapping[str, np.ndarray]]
    """model -> metric -> (n,)."""

    @property
    def cuts(self) -> dict[str, np.ndarray]:
        """How a metric's name goes on -> (n,) bool: all test slates, and the hard ones where there are any."""
        return {"": np.ones(len(self.slates), bool)} | ({", hard": self.hard_n} if self.hard_n.any() else {})

    def means(self, name: str, metric: str) -> list[Result]:
        value_n = self.values[name][metric]
        return [self.row(name, metric + cut, value_n[kept], self.users[kept]) for cut, kept in self.cuts.items()]

    def differences(self, name: str, metric: str) -> list[Result]:
        """Less the thinking and the direct model, and how much it keeps of the direct model's gain."""
        made = []
        for other in (o for o in (THINKING, DIRECT) if o != name):
            less_n = self.values[name][metric] - self.values[other][metric]
            for cut, kept in self.cuts.items():
                made.append(
                    self.row(name, f"{metric} less {other}{cut}", less_n[kept], self.users[kept], "-differences")
                )
        return made + self.kept_gain(name, metric)

    def kept_gain(self, name: str, metric: str) -> list[Result]:
        """(model - incoming) / (direct - incoming), of a model alone by direct alone; nothing where the interval of
        what it is a share of holds 0."""
        whole = DIRECT + ALONE if name.endswith(ALONE) else DIRECT
        ours_n, theirs_n = (self.values[n][metric] - self.values[INCOMING][metric] for n in (name, whole))
        share = share_of_gain(ours_n, theirs_n, self.users)
        return [self.cost(name, f"share of {whole}'s gain, {metric}", *share, "-differences")] if share else []

    def row(self, name: str, metric: str, value_n: np.ndarray, users: np.ndarray, more: str = "") -> Result:
        return averaged(self.table + more, name, metric, value_n, users)

    def cost(self, name: str, metric: str, low: float, value: float, high: float, more: str = "") -> Result:
        n = min(CALLS, len(self.slates)) if metric == "milliseconds" else len(self.slates)
        return Result(table=self.table + more, row=name, metric=metric, ours=value, low=low, high=high, n=n)

    @cached_property
    def users(self) -> np.ndarray:
        return np.array([s.user_id for s in self.slates])
