"""Provenance of a run folder: a stage is written aside, then renamed, so that existing means complete.

A run is `runs/<name>/01_corpus ... 13_evaluate`. While stage `05_traces` works, its folder is
`05_traces.partial`; it holds the training checkpoints from which an interrupted stage goes on. When
the stage is done, `record.json` is written and the folder renamed. (ours)
"""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gr2.errors import UserError

RECORD = "record.json"
METRICS = "metrics.jsonl"


def digest_bytes(data: bytes) -> str:
    """First 16 hex digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def digest_json(value: Any) -> str:
    """Digest of a JSON-able value, blind to the order of keys."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode())


def digest_file(path: Path) -> str:
    """First 16 hex digits of the file's SHA-256, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """What a record's counts say of the user's own files: `log_digest` of the one named `log`."""
    return {f"{name}_digest": digest_file(path) for name, path in files.items()}


def digest_folder(folder: Path) -> str:
    """Digest of every file's name and bytes below `folder`, but for the record and the metrics."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in (RECORD, METRICS)):
        total.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()[:16]


def write_json(path: Path, value: Any) -> None:
    """As `write_whole` does."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write aside, then rename: a crash leaves the old file or the new one, never half."""
    aside = path.with_name(path.name + ".partial")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def read_json(path: Path) -> Any:
    """Raises UserError when the file is absent or not JSON."""
    with reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_jsonl(path: Path) -> list[Any]:
    """A value a line. Raises UserError when the file is absent or a line is not JSON."""
    with reading(path):
        # Not splitlines(): a thought may hold U+2028 and its like, which end a line there but not in JSONL.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a run's file `path` inside: raises UserError where it is absent or spoilt, with what makes it again."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run the stage that writes it (`gr2` lists them)") from None
    except Exception as error:  # each library has its own kinds, down to plain Exception
        raise UserError(f"{path}: unreadable ({' '.join(str(error).split())[:200]}); {_mend(path)}") from error


def _mend(path: Path) -> str:
    """What makes a spoilt file again."""
    stages = [p for p in (path, *path.parents) if re.fullmatch(r"\d\d_[a-z]+(\.partial)?", p.name)]
    if not stages:
        return "make it again, or bring it back from a copy"
    if stages[0].suffix:
        return f"delete {stages[0]} and run again"
    return f"make {stages[0].name} again: `gr2 run` with `--redo {stages[0].name}`"


@dataclass
class StageFolder:
    """The folder a stage is writing, with a place for its metrics and counts."""

    path: Path
    resumed: bool
    """True when an earlier, interrupted try with the same config and inputs left work here."""
    counts: dict[str, Any] = field(default_factory=dict)
    """What goes into record.json under `counts`."""

    def metric(self, **values: Any) -> None:
        """Append one line to metrics.jsonl, for example `metric(step=10, loss=2.5)`."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; empty when the stage wrote none. The last of equal `step`s and `phase`s wins. A line
    that a crash tore is left out: what it told was made again."""
    path = folder / METRICS
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    latest = {(row.get("phase"), row.get("step", i)): row for i, row in enumerate(rows)}
    return list(latest.values())


def is_complete(folder: Path) -> bool:
    return (folder / RECORD).exists()


def key_of(config: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
    """What a stage's result depends on: its config and the digests of the folders it reads."""
    digests = {}
    for name, folder in inputs.items():
        if not is_complete(folder):
            raise UserError(f"{folder}: not complete; run the stage that writes it first (`gr2` lists them)")
        digests[name] = read_json(folder / RECORD)["digest"]
    return {"config": json.loads(json.dumps(dict(config), default=str)), "inputs": digests}


@contextmanager
def stage_folder(folder: Path, config: Mapping[str, Any], inputs: Mapping[str, Path]) -> Iterator[StageFolder]:
    """Write a stage: yields the folder aside, and renames it when the block ends without an error.

    What an interrupted try left is kept when config and inputs are the same, and thrown away otherwise.
    """
    key = key_of(config, inputs)
    aside = folder.with_name(folder.name + ".partial")
    key_file = aside / "key.json"
    resumed = key_file.exists() and read_json(key_file) == key
    if aside.exists() and not resumed:
        shutil.rmtree(aside)
    aside.mkdir(parents=True, exist_ok=True)
    write_json(key_file, key)
    work = StageFolder(path=aside, resumed=resumed)
    from gr2.device import hardware  # here: it brings torch, which reading a record does not want

    start, made_by = time.time(), {"git_commit": git_commit(), "code": digest_code()}
    yield work
    key_file.unlink()
    write_json(
        aside / RECORD,
        {
            **key,
            "digest": digest_folder(aside),
            "counts": work.counts,
            "seconds": round(time.time() - start, 2),
            "resumed": resumed,
            "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **made_by,
            "device": hardware(),
            "versions": {p: version(p) for p in ("gr2", "torch", "transformers", "trl", "lightgbm", "scikit-learn")},
        },
    )
    readable(aside)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(aside, folder)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder aside to write into, which becomes `out` when the block ends without an error: whole or not at all.
    Raises UserError when `out` is there already."""
    if out.exists():
        raise UserError(f"{out}: is there already; name another folder")
    aside = out.with_name(out.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        readable(aside)
        os.replace(aside, out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def readable(folder: Path) -> None:
    """Give every file the rights that a new file has here: some libraries make theirs for one user alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


@cache
def digest_code() -> str:
    """Of the package's modules: tells code apart outside a checkout, and with changes that no commit has."""
    here = Path(__file__).parent
    return digest_bytes(b"".join(path.read_bytes() for path in sorted(here.rglob("*.py"))))


def git_commit() -> str | None:
    """The commit of the code, or None outside a checkout."""
    try:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
