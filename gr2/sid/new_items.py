"""Ids for items that arrive after the codebooks were made; ids given before never change (ours).

`python -m gr2.sid.new_items IDS NEW.parquet OLD.parquet OUT [--retired GONE.txt]`. Vectors
are tables of `item_id` and `vector`, in the space of the codebooks.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer

from gr2.artifacts import SemanticIds
from gr2.errors import UserError, in_one_line
from gr2.record import new_folder, write_json
from gr2.sid.assign import check_finite, nearest_codes, reconstruct, unique_codes
from gr2.sid.stream import read_vectors
from gr2.types import DAY

HORIZON_DAYS = 365
"""A retired id goes to no other item for so long: longer than any log that still names it is trained on."""
STALE_RATIO = 1.5
"""Error of new items over that of old ones from which codebooks are called stale: between that of items like the old
ones (at most 1.5 on Beauty, Toys and Sports) and that of a category the codebooks never saw (at least 2.1)."""
RETIRED = "retired.parquet"


@dataclass(frozen=True, kw_only=True)
class Retired:
    """The id of an item that left the catalogue."""

    item_id: str
    codes: tuple[int, ...]
    at: int
    """When it left, unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Staleness:
    """How well the codebooks describe items they were not made for."""

    error_old: float
    """Mean squared distance of old items to what their nearest codes reconstruct."""
    error_new: float
    ratio: float
    """error_new / error_old: what the codebooks lose on new items for 1 lost on the old ones."""
    low: float
    """Lower end of the ratio's 95 % interval, by the spread of the new items' errors."""
    stale: bool
    """Whether even `low` is above STALE_RATIO: make new codebooks, and train anew."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The ids in use and the ids that rest."""

    ids: SemanticIds
    retired: tuple[Retired, ...] = field(default=())

    def save(self, folder: Path) -> None:
        self.ids.save(folder)
        schema = pl.Schema({"item_id": pl.String(), "codes": pl.List(pl.Int64()), "at": pl.Int64()})
        pl.DataFrame([asdict(r) for r in self.retired], schema=schema).write_parquet(folder / RETIRED)

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        """A folder of s02_sids, or one that `save` wrote. Raises UserError when a file is spoilt."""
        path = folder / RETIRED
        try:
            rows = list(pl.read_parquet(path, glob=False).iter_rows(named=True)) if path.exists() else []
        except pl.exceptions.PolarsError:
            raise UserError(
                f"{path}: unreadable; take the folder from a copy: without it ids may be given twice"
            ) from None
        retired = tuple(Retired(item_id=r["item_id"], codes=tuple(r["codes"]), at=r["at"]) for r in rows)
        return cls(ids=SemanticIds.load(folder), retired=retired)


def retire(catalogue: Catalogue, item_ids: Collection[str], *, now: int) -> Catalogue:
    """Take `item_ids` out of use at `now` (unix seconds). Raises UserError when one has no id."""
    gone = set(item_ids)
    if unknown := gone - set(catalogue.ids.item_ids):
        raise UserError(f"retired items: {min(unknown)} has no semantic id; leave it out")
    kept = [i for i, item_id in enumerate(catalogue.ids.item_ids) if item_id not in gone]
    resting = tuple(
        Retired(item_id=item_id, codes=catalogue.ids.of[item_id].codes, at=now)
        for item_id in catalogue.ids.item_ids
        if item_id in gone
    )
    ids = replace(
        catalogue.ids, item_ids=tuple(catalogue.ids.item_ids[i] for i in kept), codes=catalogue.ids.codes[kept]
    )
    return Catalogue(ids=ids, retired=catalogue.retired + resting)


def assign(
    catalogue: Catalogue,
    item_ids: Sequence[str],
    vectors: np.ndarray,
    *,
    now: int,
) -> Catalogue:
    """`catalogue` with ids for the new `item_ids` of `vectors` (N, D) behind the old ones; no id given before changes.

    An item that was retired within `HORIZON_DAYS` gets its own id back; the id of one retired before that is free for
    any item. Blind to the order of `item_ids`, but for the order of the answer's rows.
    Raises UserError when an item has an id already or comes twice, vectors do not fit, or there are no ids left.
    """
    _check_new(catalogue.ids, item_ids, vectors)
    resting = tuple(r for r in catalogue.retired if now - r.at <= HORIZON_DAYS * DAY)
    own = {r.item_id: r.codes for r in resting}
    held = np.array([r.codes for r in resting], dtype=np.int64).reshape(-1, catalogue.ids.codes.shape[1])
    codes = np.zeros((len(item_ids), held.shape[1]), dtype=np.int64)
    fresh = np.array([i for i in np.argsort(np.array(item_ids)) if item_ids[i] not in own], dtype=np.int64)
    books = catalogue.ids.codebooks
    taken = np.concatenate([catalogue.ids.codes, held])
    codes[fresh] = unique_codes(vectors[fresh], nearest_codes(vectors[fresh], books), books, taken)
    for i, item_id in enumerate(item_ids):
        if item_id in own:
            codes[i] = own[item_id]
    ids = replace(
        catalogue.ids,
        item_ids=(*catalogue.ids.item_ids, *item_ids),
        codes=np.concatenate([catalogue.ids.codes, codes]),
    )
    back = set(item_ids)
    return Catalogue(ids=ids, retired=tuple(r for r in resting if r.item_id not in back))


def staleness(old: np.ndarray, new: np.ndarray, codebooks: Sequence[np.ndarray]) -> Staleness:
    """Errors of `new` (M, D) vectors against those of `old` (N, D), which the codebooks were made for, N and M >= 1."""
    before, after = quantization_errors(old, codebooks), quantization_errors(new, codebooks)
    # Codebooks without any error on the old items make any error on new ones infinitely worse.
    scale = max(float(before.mean()), float(np.finfo(np.float32).tiny))
    half = 1.96 * float(after.std(ddof=1)) / np.sqrt(len(after)) if len(after) > 1 else np.inf
    low = (float(after.mean()) - half) / scale
    return Staleness(
        error_old=float(before.mean()),
        error_new=float(after.mean()),
        ratio=float(after.mean()) / scale,
        low=max(float(low), 0.0),
        stale=bool(low > STALE_RATIO),
    )


def quantization_errors(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Squared distance (N,) of each of `vectors` (N, D) to the sum of its nearest codes."""
    left = vectors - reconstruct(nearest_codes(vectors, codebooks), codebooks)
    return (left.astype(np.float64) ** 2).sum(axis=1)


def _check_new(ids: SemanticIds, item_ids: Sequence[str], vectors: np.ndarray) -> None:
    dims = ids.codebooks[0].shape[1]
    if vectors.shape != (len(item_ids), dims):
        raise UserError(f"new items: vectors {vectors.shape} for {len(item_ids)} items and codebooks of {dims} numbers")
    seen = set(ids.item_ids)
    for row, item_id in enumerate(item_ids):
        if item_id in seen:
            raise UserError(f"new items, row {row}: {item_id} has a semantic id already; leave it out")
        seen.add(item_id)
    check_finite(vectors)


def _read(path: Path) -> tuple[list[str], np.ndarray]:
    chunks = list(read_vectors(path))
    if not chunks:
        raise UserError(f"{path}: no rows; it needs one item at least")
    return [i for ids, _ in chunks for i in ids], np.concatenate([vectors for _, vectors in chunks])


def main(
    ids: Path, new: Path, old: Path, out: Path, retired: Annotated[Path | None, typer.Option(exists=True)] = None
) -> None:
    """Write `out`: the ids of the folder `ids`, and ids for the items of `new`.

    `old` holds vectors the codebooks were made for, to tell staleness by; `retired` is a text file of item ids, one a
    line, that leave the catalogue before.
    """
    with in_one_line(), new_folder(out) as aside:
        now = int(time.time())
        catalogue = Catalogue.load(ids)
        if retired:
            catalogue = retire(catalogue, retired.read_text(encoding="utf-8").split(), now=now)
        names, vectors = _read(new)
        report = staleness(_read(old)[1], vectors, catalogue.ids.codebooks)
        assign(catalogue, names, vectors, now=now).save(aside)
        write_json(aside / "staleness.json", asdict(report))
    verdict = "STALE: make new codebooks" if report.stale else "codebooks still fit"
    typer.echo(f"{len(names)} new ids; error of new items {report.ratio:.2f} x that of old ones; {verdict}")


if __name__ == "__main__":
    typer.run(main)
