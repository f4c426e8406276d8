"""Finished runs of one config and other seeds, and what they say together.

Another seed is another pre-ranker, so other slates, of the *same users*: a user's slates of all seeds hang
together. So a metric is the mean of the seeds' means, and the bootstrap draws a user with all slates of all seeds.
(ours)

Shapes: S seeds, n slates or events of a seed, C columns (a ranker's metric each), D draws.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from gr2.artifacts import Rankings, Scores, Slates
from gr2.errors import UserError
from gr2.evaluate.headline import GR2
from gr2.evaluate.metrics import MEASURES, per_slate
from gr2.evaluate.significance import bootstrap_means
from gr2.evaluate.table import INCOMING, Values
from gr2.record import RECORD, is_complete, read_json
from gr2.run import differences
from gr2.types import Split

BEST_LEGACY, BEST_SINGLE = "best legacy", "best single legacy"
"""Stand among the rankers for those that each seed's own validation slates chose: of all, and of the single ones."""
NOT_SINGLE = ("stack", "advice")
"""All of them in one, and GR2's own part."""
NOT_LEGACY = (GR2, INCOMING, "midtrained", "plain_llm")
"""How the names of all other rankers begin."""
Column = tuple[str, str]
"""(ranker, metric)."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One finished run."""

    folder: Path
    scores: Scores
    rankings: dict[str, Rankings]
    values: dict[str, Values]
    """ranker -> metric -> (n,) values of the test slates."""
    users: list[str]
    """Of the test slates."""
    missed: list[str]
    """The user of every test event without a slate."""
    records: dict[str, Any]
    """Stage folder ("05_traces") -> its record.json."""
    best_single: str
    """The single legacy re-ranker that the validation slates chose."""

    @property
    def seed(self) -> int:
        return int(self.records["13_evaluate"]["config"]["seed"])

    @classmethod
    def load(cls, folder: Path) -> "Finished":
        """Raises UserError when the run is not finished or a ranking is broken."""
        evaluation = folder / "13_evaluate"
        if not is_complete(evaluation):
            raise UserError(f"{evaluation}: not complete; `gr2 run {folder / 'config.toml'} --run {folder}` goes on")
        slates = Slates.load(folder / "04_slates").split(Split.TEST)
        scores = Scores.load(evaluation)
        rankings = {name: Rankings.load(evaluation / name) for name in scores.table["given_target"]}
        values = {name: per_slate(slates, r.rankings) for name, r in rankings.items()}
        users = [s.user_id for s in slates]
        single = best_single(read_json(evaluation / "valid.json"))
        return cls(
            folder=folder,
            scores=scores,
            rankings=rankings,
            values=values | {BEST_LEGACY: values[scores.best_legacy], BEST_SINGLE: values[single]},
            users=users,
            missed=list((Counter(read_json(folder / "04_slates" / "events.json")["test"]) - Counter(users)).elements()),
            records={path.parent.name: read_json(path) for path in sorted(folder.glob(f"[0-9][0-9]_*/{RECORD}"))},
            best_single=single,
        )


def best_single(on_valid: Mapping[str, Mapping[str, float]]) -> str:
    """The legacy re-ranker with the highest R@1 + N@3, as 13_evaluate chooses among all, of those that are neither a
    stack of the others nor a part of GR2. `on_valid`: ranker -> metric -> mean, its valid.json."""
    single = [name for name in on_valid if not name.startswith(NOT_LEGACY) and name not in NOT_SINGLE]
    return max(single, key=lambda name: on_valid[name]["R@1"] + on_valid[name]["N@3"])


def load_runs(folders: Sequence[Path]) -> list[Finished]:
    """The runs in the order of their seeds.

    Raises UserError when two have one seed, another config, or other rankers, for then they are no repetitions.
    """
    runs = sorted((Finished.load(folder) for folder in folders), key=lambda run: run.seed)
    for one, other in pairwise(runs):
        where = f"{one.folder} and {other.folder}"
        if one.seed == other.seed:
            raise UserError(f"{where}: both of seed {one.seed}; leave one out, or run it with another [run] seed")
        changed = differences(_config(one), _config(other))
        if changed:
            raise UserError(
                f"{where}: other configs ({'; '.join(changed[:3])}); pool runs that differ in the seed only"
            )
        if one.values.keys() != other.values.keys():
            raise UserError(f"{where}: other rankers; evaluate one again with `--redo 13_evaluate`")
    return runs


def _config(run: Finished) -> dict[str, Any]:
    """Every stage's config but for the seed."""
    return {stage: {**record["config"], "seed": None} for stage, record in run.records.items()}


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """The mean over seeds of every ranker's metrics, and its bootstrap."""

    mean: dict[Column, float]
    draws: dict[Column, np.ndarray]
    """(D,) the same draws of users for every column."""
    n: int
    """Slates (or events) of all seeds together."""


def pool(runs: Sequence[Finished], *, end_to_end: bool) -> Pooled:
    """All rankers and metrics; end to end, a missed event counts 0 everywhere."""
    columns = [(ranker, metric) for ranker in runs[0].values for metric in MEASURES]
    values, users = [], []
    for run in runs:
        missed = run.missed if end_to_end else []
        given_nC = np.stack([run.values[ranker][metric] for ranker, metric in columns], axis=1)
        values.append(np.concatenate([given_nC, np.zeros((len(missed), len(columns)))]))
        users.append(run.users + missed)
    mean_C, draws_DC = pooled_means(values, users)
    return Pooled(
        mean={column: float(mean_C[c]) for c, column in enumerate(columns)},
        draws={column: draws_DC[:, c] for c, column in enumerate(columns)},
        n=sum(map(len, users)),
    )


def pooled_means(values: Sequence[np.ndarray], users: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """S times (n, C) values and the users of their rows -> (C,) mean of the seeds' means, and its (D, C) bootstrap.

    A draw in which a seed has no slate (a handful of users) is the mean of the other seeds.
    """
    # A seed's rows fill its own columns only, with a last one that counts them: its quotients are the seed's means.
    apart = block_diag(*(np.column_stack([v, np.ones(len(v))]) for v in values))
    draws = bootstrap_means(apart, [user for of_seed in users for user in of_seed])
    draws_DSC = draws.reshape(len(draws), len(values), -1)
    size_DS1 = draws_DSC[:, :, -1:]
    means_DSC = draws_DSC[:, :, :-1] / np.where(size_DS1 > 0, size_DS1, 1)
    return np.mean([v.mean(axis=0) for v in values], axis=0), means_DSC.sum(axis=1) / (size_DS1 > 0).sum(axis=1)
