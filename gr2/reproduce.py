"""`gr2 reproduce TABLE`: make a table of docs/results.json again, by the command stored beside its rows, and compare.

The command writes docs/results.json itself, from which the table's rows have been taken, so that one that writes none
does not pass. When it has been read, the files are put back as they were: reproducing never changes what is reproduced.
(ours)
"""

import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from gr2.config import nearest
from gr2.errors import UserError
from gr2.record import is_complete, read_json, write_json
from gr2.run import console
from gr2.show import EVALUATION

Row = Mapping[str, Any]
FILES = ("results.json", "results.md")
RUN = re.compile(r"runs/[\w.-]+")
SHELL = {"|", "||", "&", "&&", ";", ">", ">>", "<"}
"""Words that only a shell understands."""
EQUAL, WITHIN, DIFFERS, GONE, NEW = "equal", "within interval", "differs", "gone", "new"


def stored(docs: Path) -> list[dict[str, Any]]:
    """The rows of results.json."""
    return list(read_json(docs / FILES[0]))


def tables(rows: Sequence[Row]) -> Table:
    """Every table, its number of rows, and its commands."""
    shown = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("table", "rows", "command"):
        shown.add_column(column)
    for name, n in Counter(row["table"] for row in rows).items():
        shown.add_row(escape(name), str(n), escape("\n".join(_commands(_of(rows, name)))))
    return shown


def compare_again(docs: Path, table: str, make_runs: bool = False) -> bool:
    """Run the table's commands in the current folder, print what came out; True when nothing differs or is gone. The
    runs that they pool are made first where they are missing and `make_runs` says so.

    Raises UserError when there is no such table, a command needs a shell or a run that is missing, or it fails.
    """
    old = _of(stored(docs), table)
    if not old:
        raise UserError(f"{docs / FILES[0]}: no table {table!r}; {nearest(table, {r['table'] for r in stored(docs)})}")
    commands = [_words(command) for command in _commands(old)]
    missing = [made for words in commands for made in runs_missing(words)]
    if missing and not make_runs:
        how = "; ".join(shlex.join(words) for words in missing)
        raise UserError(f"{table} pools runs that are not here; `gr2 reproduce {table} --runs` makes them, with: {how}")
    for words in missing:
        _show_and_run(words)
    with put_back([docs / name for name in FILES]):
        write_json(docs / FILES[0], [row for row in stored(docs) if row["table"] != table])
        for words in commands:
            _show_and_run(words)
        new = _of(stored(docs), table)
    found = verdicts(old, new)
    console.print(verdict_table(table, found))
    return all(verdict in (EQUAL, WITHIN) for _, _, verdict in found)


def runs_missing(words: Sequence[str]) -> list[list[str]]:
    """What makes each run folder among the words that holds no evaluation: runs/shop-2 is configs/shop.toml with
    seed 2. Raises UserError when it has no such config."""
    found = []
    for folder in (Path(word) for word in words if RUN.fullmatch(word)):
        if is_complete(folder / EVALUATION):
            continue
        config, seed = Path("configs") / f"{folder.name}.toml", []
        if not config.exists():
            name, _, number = folder.name.rpartition("-")
            config, seed = Path("configs") / f"{name}.toml", ["--seed", number]
        if not config.exists() or (seed and not seed[1].isdigit()):
            raise UserError(f"{folder}: no such run, and no configs/{folder.name}.toml to make it; bring the run back")
        found.append(["gr2", "run", str(config), *seed])
    return found


def verdicts(old: Sequence[Row], new: Sequence[Row]) -> list[tuple[Row | None, Row | None, str]]:
    """(stored row, new row, verdict) of every row and metric. Equal: to nine digits; within: the stored interval."""
    before, after = ({(row["row"], row["metric"]): row for row in rows} for rows in (old, new))
    pairs = [(before.get(key), after.get(key)) for key in [*before, *(k for k in after if k not in before)]]
    return [(one, other, _verdict(one, other)) for one, other in pairs]


def _verdict(old: Row | None, new: Row | None) -> str:
    if old is None or new is None:
        return NEW if old is None else GONE
    if math.isclose(old["ours"], new["ours"], rel_tol=1e-9, abs_tol=1e-12):
        return EQUAL
    return WITHIN if old["low"] <= new["ours"] <= old["high"] else DIFFERS


def verdict_table(name: str, found: Sequence[tuple[Row | None, Row | None, str]]) -> Table:
    """How many numbers got each verdict, then every one that is not equal."""
    counts = Counter(verdict for _, _, verdict in found)
    shown = Table(
        title=escape(f"{name}: ") + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()),
        title_justify="left",
        header_style="bold",
    )
    for column in ("row", "metric", "stored", "95 % interval", "now", ""):
        shown.add_column(column)
    for old, new, verdict in found:
        if verdict != EQUAL:
            row = old or new or {}
            was = (f"{old['ours']:.4g}", f"{old['low']:.4g} to {old['high']:.4g}") if old else ("", "")
            now = f"{new['ours']:.4g}" if new else ""
            shown.add_row(escape(row["row"]), escape(row["metric"]), *was, now, verdict)
    return shown


@contextmanager
def put_back(paths: Sequence[Path]) -> Iterator[None]:
    """Whatever happens inside, a signal to stop too, the files are as they were afterwards."""
    before = {path: path.read_bytes() for path in paths if path.exists()}
    stops = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]  # nohup ignores one
    handlers = {number: signal.signal(number, _stop) for number in stops}
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *handlers})  # a second one waits until they are back
        for path, data in before.items():
            path.write_bytes(data)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, *handlers})


def _stop(number: int, frame: object) -> None:
    """As a signal ends a program, but on the way out through all that is to be put back."""
    sys.exit(128 + number)


def _of(rows: Sequence[Row], table: str) -> list[Row]:
    return [row for row in rows if row["table"] == table]


def _commands(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["command"] for row in rows))


def _words(command: str) -> list[str]:
    words = shlex.split(command)
    if SHELL.intersection(words) or "$" in command or "`" in command:
        raise UserError(f"`{command}` needs a shell; run it yourself, then `git diff` shows what changed in {FILES[0]}")
    return words


def _show_and_run(words: Sequence[str]) -> None:
    console.print(f"[bold]$[/] {escape(shlex.join(words))}", soft_wrap=True, highlight=False)
    _run(words)


def _run(words: Sequence[str]) -> None:
    """With this Python's programs first, so that `python` and `gr2` are those of this installation."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        code = subprocess.run(words, env={**os.environ, "PATH": path}, check=False).returncode
    except FileNotFoundError:
        raise UserError(f"{words[0]}: no such program here; install it, then reproduce again") from None
    if code:
        raise UserError(f"`{shlex.join(words)}` failed (exit code {code}); what it wants is said above")
