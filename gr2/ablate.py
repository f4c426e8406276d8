"""`gr2 ablate`: what each component is worth, by runs that lack one of them, all else and the budget the same.

A config's [ablate] table has the seeds; every table below it is a component and holds what removes it:

    [ablate]
    seeds = [0, 1, 2]
    [ablate.rejection.traces]
    strategy = "targeted"

The full run of the config's own seed is runs/<name>, of another seed runs/<name>-<seed>; a run without a component is
runs/<name>-ablate/<component>-<seed>. Stages that the component does not touch are the full run's own. (ours)
"""

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from rich.markup import escape

from gr2.config import ABLATE, SEEDS, RunConfig, fill_config, fill_table, nearest, overlaid, parse_config
from gr2.errors import UserError
from gr2.evaluate.ablation import compare
from gr2.evaluate.ablation_page import Row, page, printed, served, verdict
from gr2.record import RECORD, digest_folder, is_complete, read_json, write_json
from gr2.run import changes, console, downstream, duration, folder_of, kinds, locked, run_stages, stage_named

FIXED = ("run", ABLATE, "corpus", "slates", "bundle", "legacy", "evaluate")
"""Tables that a component leaves alone: it is measured on the full run's slates, in the full run's way."""


class AblateTable(BaseModel):
    """The [ablate] table; the tables below it are the components."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seeds: tuple[Annotated[int, Field(ge=0, lt=SEEDS)], ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of the runs; each has a full run of its own."""

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands there twice")
        return seeds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared."""

    full: RunConfig
    seeds: tuple[int, ...]
    without: Mapping[str, RunConfig]
    """Component -> the config that lacks it."""

    def folder(self, runs: Path) -> Path:
        return runs / f"{self.full.name}-ablate"

    def full_runs(self, runs: Path) -> list[Path]:
        """Run folder of every seed's full run."""
        return [runs / self.full.of_seed(seed).name for seed in self.seeds]

    def jobs(self, runs: Path) -> "list[Job]":
        """The runs without a component, all seeds of the first one first."""
        return [
            Job(
                component=component,
                folder=self.folder(runs) / f"{component}-{seed}",
                config=replace(config.of_seed(seed), name=f"{component}-{seed}"),
                full=runs / self.full.of_seed(seed).name,
                redone=self.redone(component),
            )
            for component, config in self.without.items()
            for seed in self.seeds
        ]

    def redone(self, component: str) -> set[str]:
        """The stages that the component touches, directly or through others."""
        without = self.without[component].tables
        return downstream([stage_named(t) for t, config in self.full.tables.items() if without[t] != config])


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that lacks a component."""

    component: str
    folder: Path
    config: RunConfig
    full: Path
    """Run folder of the full run of the same seed."""
    redone: set[str]
    """Stages made anew; all others are the full run's."""

    @property
    def stages(self) -> list[str]:
        return [stage_named(table) for table in self.config.tables]

    @property
    def done(self) -> bool:
        return all(is_complete(self.folder / folder_of(stage)) for stage in self.stages)

    def seconds_left(self) -> float:
        """As long as the full run took for the stages that are still to be made."""
        names = [folder_of(stage) for stage in self.redone]
        return sum(read_json(self.full / n / RECORD)["seconds"] for n in names if not is_complete(self.folder / n))


def load_plan(path: Path) -> Plan:
    """Raises UserError on an unknown table or key, a fixed table, and a component that changes nothing."""
    raw = parse_config(path)
    full = fill_config(str(path), path.stem, raw, kinds())
    table = raw.get(ABLATE, {})
    components = {name: tables for name, tables in table.items() if isinstance(tables, dict)}
    if not components:
        raise UserError(
            f"{path}: no component in [{ABLATE}]; add what removes one, such as [{ABLATE}.rejection.traces]"
        )
    head = {key: value for key, value in table.items() if key not in components}
    return Plan(
        full=full,
        seeds=fill_table(str(path), ABLATE, AblateTable, {ABLATE: head}).seeds,
        without={component: _without(component, path, full, raw) for component in components},
    )


def _without(component: str, path: Path, full: RunConfig, raw: Mapping[str, Any]) -> RunConfig:
    """The full run's config with the component's tables laid over it."""
    where, tables = f"{path}: [{ABLATE}.{component}]", raw[ABLATE][component]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", component):
        raise UserError(f"{where}: {component!r} names a folder; use letters, digits, _ and -")
    fixed = [table for table in tables if table in FIXED]
    if fixed:
        raise UserError(f"{where}: [{fixed[0]}] stays the same in every run, or other slates would be compared")
    config = fill_config(where, full.name, overlaid(raw, tables), kinds())
    if config.tables == full.tables:
        raise UserError(f"{where}: changes nothing; the full run has these values already")
    return config


def ablate(plan: Plan, runs: Path, only: Collection[str] = ()) -> dict[str, list[Path]]:
    """Make what is missing, of `only` these components where any are named; component -> its finished runs by seed.

    Goes on where a stopped call was. Raises UserError, before a component's run starts, when one was made for another
    config or full run.
    """
    for name in only:
        if name not in plan.without:
            raise UserError(f"no component {name!r} in [{ABLATE}]; {nearest(name, plan.without)}")
    for seed, folder in zip(plan.seeds, plan.full_runs(runs), strict=True):
        console.print(f"[bold]full run, seed {seed}[/]: {escape(str(folder))}", highlight=False)
        run_stages(folder, plan.full.of_seed(seed), [stage_named(table) for table in plan.full.tables], [])
    jobs = plan.jobs(runs)
    for job in jobs:
        check_same(job)
    make_all([job for job in jobs if not only or job.component in only])
    finished = {name: [job.folder for job in jobs if job.component == name and job.done] for name in plan.without}
    return {name: folders for name, folders in finished.items() if len(folders) == len(plan.seeds)}


def conclude(plan: Plan, runs: Path, finished: Mapping[str, Sequence[Path]], table: str, command: str) -> list[Row]:
    """Compare, write ablation.json and ablation.html, print the table; gives the rows as docs/results.json has them."""
    folder = plan.folder(runs)
    results, other_code = compare(plan.full_runs(runs), finished, table)
    rows: list[Row] = [result.as_json(len(plan.seeds), command) for result in results]
    write_json(folder / "ablation.json", {"other_code": other_code, "rows": rows})
    (folder / "ablation.html").write_text(page(rows, plan.full.name, other_code), encoding="utf-8")
    for mode, of in served(rows).items():
        console.print(printed(of, mode), verdict(of, mode), "", highlight=False)
    waiting = [component for component in plan.without if component not in finished]
    if waiting:
        console.print(f"not made yet: {', '.join(waiting)}", soft_wrap=True)
    if other_code:
        console.print("[yellow]some stages were made by other code than the full run's; see the page[/]")
    console.print(escape(f"report: {folder / 'ablation.html'}"), soft_wrap=True)
    return rows


def make_all(jobs: Sequence[Job]) -> None:
    """Make the runs one after the other, each with the time that all of them still take."""
    for number, job in enumerate(jobs, 1):
        said = f"[bold]without {escape(job.component)}, seed {job.config.seed}[/] (run {number} of {len(jobs)}"
        if job.done:
            console.print(f"{said}): complete, skipped", highlight=False)
            continue
        left = sum(one.seconds_left() for one in jobs[number - 1 :])
        console.print(f"{said}, about {duration(left)} left): {escape(str(job.folder))}", highlight=False)
        with locked(job.folder):
            for name in (folder_of(stage) for stage in job.stages if stage not in job.redone):
                take(job.full / name, job.folder / name)
        run_stages(job.folder, job.config, job.stages, [])


def check_same(job: Job) -> None:
    """Raises UserError when a complete stage of the run is not the one that it would get now."""
    for stage in job.stages:
        name = folder_of(stage)
        changed = changes(job.folder, stage, job.config)
        if stage not in job.redone and is_complete(job.folder / name):
            ours, theirs = (read_json(run / name / RECORD)["digest"] for run in (job.folder, job.full))
            changed += [f"another {job.full / name}"] * (ours != theirs)
        if changed:
            raise UserError(
                f"{job.folder / name}: made for another ablation ({'; '.join(changed[:3])}); "
                f"delete {job.folder} and run again"
            )


def take(source: Path, folder: Path) -> None:
    """Give `folder` the files of a complete stage, whole or not at all: hard links, or copies on another disk.

    Raises UserError when the source is not what its record says.
    """
    if is_complete(folder):
        return
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(source, aside, copy_function=_link)
    if digest_folder(aside) != read_json(source / RECORD)["digest"]:
        raise UserError(f"{source}: changed since it was made; make it again: `gr2 run` with `--redo {source.name}`")
    os.replace(aside, folder)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)
