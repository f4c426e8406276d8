"""One progress bar for everything that takes over a few seconds: done, speed and time left."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
console = Console(file=sys.stderr)


def bar() -> Progress:
    """A bar on stderr, for loops that advance by themselves."""
    return Progress(
        TextColumn("{task.description}", markup=False),  # it may hold a file's name
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def track(things: Iterable[T], label: str | None, total: int | None = None) -> Iterator[T]:
    """Yield `things` behind a bar named `label`; without a bar when there is no label, as when serving."""
    if label is None:
        yield from things
        return
    with bar() as progress:
        yield from progress.track(things, description=label, total=total)
