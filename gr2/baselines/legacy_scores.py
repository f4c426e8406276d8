"""What legacy re-rankers say of held-out slates, on disk: one score a candidate, in incoming order. (ours)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from gr2.errors import UserError
from gr2.evaluate.answers import from_scores
from gr2.record import reading
from gr2.types import Ranking, Slate

FILE = "scores.parquet"


@dataclass(frozen=True, kw_only=True)
class LegacyScores:
    """Written by s12_legacy."""

    by_slate: Mapping[str, Mapping[str, np.ndarray]]
    """Name -> slate id -> (K,) float64, higher is better."""

    @classmethod
    def of(cls, slates: Sequence[Slate], said: Mapping[str, Sequence[np.ndarray]]) -> "LegacyScores":
        """From a row of scores a slate, which may be padded behind."""
        return cls(
            by_slate={
                name: {
                    slate.slate_id: np.asarray(row[: len(slate.candidates)], dtype=np.float64)
                    for slate, row in zip(slates, rows, strict=True)
                }
                for name, rows in said.items()
            }
        )

    def scores(self, name: str, slates: Sequence[Slate]) -> list[np.ndarray]:
        """(K,) a slate. Raises UserError when one of them was never asked about."""
        known = self.by_slate[name]
        for slate in slates:
            if slate.slate_id not in known:
                raise UserError(f"slate {slate.slate_id}: no legacy re-ranker was asked; run s12_legacy again")
        return [known[slate.slate_id] for slate in slates]

    def rank(self, name: str, slates: Sequence[Slate]) -> list[Ranking]:
        """Highest score first; equals keep the incoming order."""
        return [from_scores(s, scores_K) for s, scores_K in zip(slates, self.scores(name, slates), strict=True)]

    def save(self, folder: Path) -> None:
        ids = list(next(iter(self.by_slate.values())))
        columns = [
            pl.Series(name, [known[i].tolist() for i in ids], dtype=pl.List(pl.Float64))
            for name, known in self.by_slate.items()
        ]
        pl.DataFrame([pl.Series("slate_id", ids, dtype=pl.String), *columns]).write_parquet(folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> "LegacyScores":
        with reading(folder / FILE):
            table = pl.read_parquet(folder / FILE, glob=False)
        ids = table["slate_id"].to_list()
        return cls(
            by_slate={
                column.name: {i: np.array(row) for i, row in zip(ids, column.to_list(), strict=True)}
                for column in table.drop("slate_id").iter_columns()
            }
        )
