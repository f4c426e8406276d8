"""What each component is worth: runs that lack it against the full runs of the same seeds, on the same slates.

A difference is the run without the component minus the full run, so a component that helps has a negative one. It is
taken slate by slate and pooled over seeds as in `pooled`: the bootstrap draws a user with all slates of all seeds.
(ours)

Shapes: n slates or events of a seed, C columns (a mode's metric each), D draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gr2.errors import UserError
from gr2.evaluate.headline import GR2, gr2_modes
from gr2.evaluate.metrics import MEASURES
from gr2.evaluate.pooled import Finished, load_runs, pooled_means
from gr2.evaluate.results import Result
from gr2.evaluate.significance import holm, interval, paired_p

END_TO_END = "-end-to-end"


def compare(full: Sequence[Path], without: Mapping[str, Sequence[Path]], table: str) -> tuple[list[Result], list[str]]:
    """Rows of `table` and `table`-end-to-end, and a line for each stage that other code made than the full run's.

    `full` and every component's folders are finished runs, of the same seeds. Holm's correction is over the
    components, for one mode, metric and protocol. Raises UserError when a run is not finished, or is of other slates
    or other rankers.
    """
    whole = load_runs(full)
    rows: list[Result] = []
    other_code: dict[str, list[str]] = {}
    for component, folders in without.items():
        runs = load_runs(folders)
        for one, base in zip(runs, whole, strict=True):
            _check_comparable(one, base)
            for commits in _other_code(one, base):
                other_code.setdefault(commits, []).append(one.folder.name)
        for end_to_end in (False, True):
            rows += differences(component, runs, whole, table + END_TO_END * end_to_end, end_to_end=end_to_end)
    return _corrected(rows), [f"{commits}: {', '.join(made)}" for commits, made in sorted(other_code.items())]


def differences(
    component: str, runs: Sequence[Finished], whole: Sequence[Finished], table: str, *, end_to_end: bool
) -> list[Result]:
    """One component's rows, a metric of a mode that is there with and without it each; end to end, a missed event
    counts 0 in both runs."""
    modes = [m for m in gr2_modes(whole[0].scores) if all(m in run.values for run in [*whole, *runs])]
    columns = [(mode, metric) for mode in modes for metric in MEASURES]
    missed = [base.missed if end_to_end else [] for base in whole]
    full_nC = [_values(base, columns, len(m)) for base, m in zip(whole, missed, strict=True)]
    less_nC = [_values(one, columns, len(m)) - f for one, m, f in zip(runs, missed, full_nC, strict=True)]
    users = [base.users + m for base, m in zip(whole, missed, strict=True)]
    mean_C, draws_DC = pooled_means(less_nC, users)
    full_C = np.mean([values.mean(axis=0) for values in full_nC], axis=0)
    rows = []
    for c, (mode, metric) in enumerate(columns):
        low, high = interval(draws_DC[:, c])
        more = {
            "component": component,
            "mode": mode,
            "full": float(full_C[c]),
            "p": paired_p(float(mean_C[c]), draws_DC[:, c]),
            "by_seed": {str(b.seed): float(v[:, c].mean()) for b, v in zip(whole, less_nC, strict=True)},
        }
        row = f"{mode} without {component}"
        n = sum(map(len, users))
        rows.append(
            Result(table=table, row=row, metric=metric, ours=float(mean_C[c]), low=low, high=high, n=n, more=more)
        )
    return rows


def _values(run: Finished, columns: Sequence[tuple[str, str]], n_missed: int) -> np.ndarray:
    """(n + missed, C)."""
    given = np.stack([run.values[mode][metric] for mode, metric in columns], axis=1)
    return np.concatenate([given, np.zeros((n_missed, len(columns)))])


def _check_comparable(one: Finished, base: Finished) -> None:
    where = f"{one.folder} and {base.folder}"
    if one.seed != base.seed:
        raise UserError(f"{where}: seeds {one.seed} and {base.seed}; a run is compared with the full run of its seed")
    if one.records["04_slates"]["digest"] != base.records["04_slates"]["digest"]:
        raise UserError(f"{where}: other slates (04_slates); delete {one.folder} and run `gr2 ablate` again")
    if any(not ranker.startswith(GR2) for ranker in one.values.keys() ^ base.values.keys()):
        raise UserError(f"{where}: other rankers; evaluate the older one again with `--redo 13_evaluate`")


def _other_code(one: Finished, base: Finished) -> list[str]:
    """`06_sft by commit a, the full run's by b` for every stage made anew by another commit than the full run's."""
    return [
        f"{stage} by commit {record['git_commit']}, the full run's by {theirs['git_commit']}"
        for stage, record in one.records.items()
        for theirs in [base.records[stage]]
        if record["digest"] != theirs["digest"] and record["code"] != theirs["code"]
    ]


def _corrected(rows: Sequence[Result]) -> list[Result]:
    """The rows with `p_holm`; those of one table and mode stand together."""
    families: dict[tuple[str, str, str], list[Result]] = {}
    for row in rows:
        families.setdefault((row.table, row.more["mode"], row.metric), []).append(row)
    corrected = [(family, holm([row.more["p"] for row in family])) for family in families.values()]
    return [
        replace(row, more={**row.more, "p_holm": p_holm})
        for family, ps in corrected
        for row, p_holm in zip(family, ps, strict=True)
    ]
