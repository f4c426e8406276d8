"""A run: the stages in order, each into its own folder below the run's, going on where it stopped.

A stage whose folder is complete and was made with the config and inputs that it would be made with now
is skipped. One that was made with others is never replaced unasked. (ours)
"""

import ast
import fcntl
import importlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.markup import escape

from gr2.config import RunConfig, nearest, read_config, write_config
from gr2.errors import UserError
from gr2.record import RECORD, digest_file, is_complete, key_of, read_json

STAGES = (
    "s01_corpus",
    "s02_sids",
    "s03_midtrain",
    "s04_slates",
    "s05_traces",
    "s06_sft",
    "s07_opd",
    "s08_rl",
    "s09_compress",
    "s10_direct",
    "s11_bundle",
    "s12_legacy",
    "s13_evaluate",
)
CONFIG = "config.toml"
LOCK = ".lock"
console = Console(emoji=False)  # a title may hold :cat:


def folder_of(stage: str) -> str:
    """`s06_sft` -> `06_sft`, the folder that the stage writes."""
    return stage.removeprefix("s")


def table_of(stage: str) -> str:
    """`s06_sft` -> `sft`, its table in a config and its command."""
    return stage.partition("_")[2]


def stage_named(text: str) -> str:
    """The stage that `sft`, `06_sft` or `s06_sft` names. Raises UserError with the nearest name."""
    for stage in STAGES:
        if text in (stage, folder_of(stage), table_of(stage)):
            return stage
    raise UserError(f"no stage {text!r}; {nearest(text, [folder_of(s) for s in STAGES])}")


@cache
def module_of(stage: str) -> ModuleType:
    """The stage's module (NAME, READS, Config, main)."""
    return importlib.import_module(f"gr2.stages.{stage}")


def about(stage: str) -> str:
    """What the stage does, from its docstring's first sentence, without importing it."""
    spec = find_spec(f"gr2.stages.{stage}")
    assert spec
    assert spec.origin
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    sentence = " ".join(doc.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
    sentence = re.sub(r"^Stage \d+: ", "", sentence)
    return sentence[:1].upper() + sentence[1:]


def load_config(path: Path) -> RunConfig:
    """A run's config, with one table for every stage."""
    return read_config(path, kinds())


def kinds() -> dict[str, Any]:
    """The Config of each table."""
    return {table_of(stage): module_of(stage).Config for stage in STAGES}


def run_stages(run: Path, config: RunConfig, stages: Collection[str], redo: Collection[str]) -> None:
    """Run `stages` in order, after throwing away those in `redo` and all that read them.

    Raises UserError, before anything runs or is thrown away, when a complete stage was made with another config or
    other inputs, and when a file of the user's that is to be read cannot be opened.
    """
    with locked(run):
        doomed = downstream(redo)
        for stage in (s for s in STAGES if s in stages and s not in doomed):
            check_unchanged(run, stage, config)
        for stage in (s for s in STAGES if s in stages and (s in doomed or not is_complete(run / folder_of(s)))):
            check_files(stage, config)
        folders = [run / folder_of(stage) for stage in STAGES if stage in doomed]
        for folder in reversed(folders):  # a half-deleted stage must not look complete, nor stand upon a missing one
            (folder / RECORD).unlink(missing_ok=True)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(folder.with_name(folder.name + ".partial"), ignore_errors=True)
        write_config(run / CONFIG, config)
        for stage in (s for s in STAGES if s in stages):
            try:
                _run_stage(run, stage, config)
            except KeyboardInterrupt:
                again = "run again without --redo" if redo else "run again"
                console.print(f"stopped; {again} to go on from {folder_of(stage)}")
                raise


def _run_stage(run: Path, stage: str, config: RunConfig) -> None:
    name, module = folder_of(stage), module_of(stage)
    check_unchanged(run, stage, config)
    if is_complete(run / name):
        console.print(f"[dim]{name:<13} complete, skipped[/]")
        return
    console.print(f"[bold]{name:<13}[/] {escape(about(stage))}")
    start = time.monotonic()
    module.main(run, config.tables[table_of(stage)], config.seed)
    counts = ", ".join(f"{k} {v}" for k, v in read_json(run / name / RECORD)["counts"].items())
    console.print(f"{'':<13} [green]done[/] in {duration(time.monotonic() - start)}  [dim]{escape(counts)}[/]")


def downstream(stages: Collection[str]) -> set[str]:
    """`stages` and every stage that reads one of them, directly or through others."""
    doomed = set(stages)
    for stage in STAGES:
        if not doomed.isdisjoint(f"s{name}" for name in module_of(stage).READS):
            doomed.add(stage)
    return doomed


def check_unchanged(run: Path, stage: str, config: RunConfig) -> None:
    """Raises UserError when the stage is complete but was made with another config or other inputs."""
    changed, folder = changes(run, stage, config), run / folder_of(stage)
    if changed:
        raise UserError(
            f"{folder}: made with another config or inputs ({'; '.join(changed[:3])}); "
            f"`--redo {folder.name}` makes it and all that reads it again, or take another --run"
        )


def check_files(stage: str, config: RunConfig) -> None:
    """Raises UserError when a file of the user's that the stage reads cannot be opened."""
    for name, path in files_of(stage, config).items():
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; bring it back, or mend [{table_of(stage)}] {name}") from None


def changes(run: Path, stage: str, config: RunConfig) -> list[str]:
    """How config and inputs differ from those that the stage was made with; empty when it is not complete.

    Inputs that are not complete now are made before it and are compared then. A file of the user's that is gone is not
    missed: what was read of it is in the stage.
    """
    folder = run / folder_of(stage)
    if not is_complete(folder):
        return []
    record = read_json(folder / RECORD)
    inputs = {name: path for name, path in inputs_of(run, stage, config).items() if is_complete(path)}
    now = key_of({**config.tables[table_of(stage)].model_dump(), "seed": config.seed}, inputs)
    changed = differences(record["config"], now["config"])
    changed += [f"another {name}" for name, digest in now["inputs"].items() if record["inputs"].get(name) != digest]
    known = record["counts"]
    for name, path in files_of(stage, config).items():
        if f"{name}_digest" in known and path.is_file() and digest_file(path) != known[f"{name}_digest"]:
            changed.append(f"another {path}")
    return changed


def inputs_of(run: Path, stage: str, config: RunConfig) -> dict[str, Path]:
    """The stage folders that it reads: READS of the run, and what its Config's `elsewhere` names where it has one."""
    table = config.tables[table_of(stage)]
    other = table.elsewhere() if hasattr(table, "elsewhere") else {}
    return {name: run / name for name in module_of(stage).READS} | other


def files_of(stage: str, config: RunConfig) -> dict[str, Path]:
    """The user's own files that the stage reads, as its Config's `files` names them where it has one."""
    table = config.tables[table_of(stage)]
    return table.files() if hasattr(table, "files") else {}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`k: 10 -> 8` for every key whose value differs."""
    found = []
    for key in [*old, *(k for k in new if k not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before} -> {after}")
    return found


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep a second process out of the run folder; the lock of a dead process does not count."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{run}: not a folder; take another --run") from None
    with (run / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{run}: process {file.read().strip()} is running it; wait, or take another --run"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
