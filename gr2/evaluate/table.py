"""The table: every ranker on the same slates, with n, intervals and paired tests, by both protocols."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gr2.artifacts import MetricValue, Scores
from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate
from gr2.evaluate.significance import bootstrap_means, interval, mcnemar, paired_p
from gr2.types import Ranking, Slate

INCOMING = "incoming"
Values = dict[str, np.ndarray]


def evaluate(
    slates: Sequence[Slate],
    n_events: Mapping[str, int],
    rankings_by_name: Mapping[str, Iterable[Ranking]],
    best_legacy: str,
    seed: int = 0,
) -> Scores:
    """Score every ranker.

    `n_events`: user -> held-out events tried, as in 04_slates/events.json for a split; an event without a slate
    counts 0 end to end. `rankings_by_name` must hold `incoming` and `best_legacy` (chosen on validation by the caller).
    Raises UserError when a ranker is missing, or does not rank every slate.
    """
    for name in (INCOMING, best_legacy):
        if name not in rankings_by_name:
            raise UserError(f"no rankings of {name!r} among {sorted(rankings_by_name)}: the table compares with it")
    given = {name: per_slate(slates, rankings) for name, rankings in rankings_by_name.items()}
    users = [s.user_id for s in slates]
    missed = _misses(users, n_events)
    end_to_end = {
        name: {metric: np.concatenate([v, np.zeros(len(missed))]) for metric, v in values.items()}
        for name, values in given.items()
    }
    return Scores(
        n_slates=len(slates),
        n_events=len(slates) + len(missed),
        best_legacy=best_legacy,
        table={
            "given_target": _protocol(given, users, best_legacy, seed),
            "end_to_end": _protocol(end_to_end, users + missed, best_legacy, seed),
        },
    )


def _misses(users: Sequence[str], n_events: Mapping[str, int]) -> list[str]:
    """The user of every event without a slate."""
    missed = dict(n_events)
    for user in users:
        missed[user] = missed.get(user, 0) - 1
        if missed[user] < 0:
            raise UserError(f"user {user}: more slates than events in 04_slates/events.json; run s04_slates again")
    return [user for user, n in missed.items() for _ in range(n)]


def _protocol(
    values: Mapping[str, Values], users: Sequence[str], best_legacy: str, seed: int
) -> dict[str, dict[str, MetricValue]]:
    """One protocol's part of the table: ranker -> metric -> value."""
    columns = [(name, metric) for name in values for metric in values[name]]
    means_DC = bootstrap_means(np.stack([values[n][m] for n, m in columns], axis=1), users, seed)
    means = {column: means_DC[:, c] for c, column in enumerate(columns)}

    def p_between(name: str, other: str, metric: str) -> float | None:
        if name == other:
            return None
        ours, theirs = values[name][metric], values[other][metric]
        if metric == "R@1":
            return mcnemar(ours, theirs)
        return paired_p(float((ours - theirs).mean()), means[name, metric] - means[other, metric])

    table: dict[str, dict[str, MetricValue]] = {name: {} for name in values}
    for name, metric in columns:
        low, high = interval(means[name, metric])
        table[name][metric] = MetricValue(
            value=float(values[name][metric].mean()),
            low=low,
            high=high,
            n=len(users),
            p_incoming=p_between(name, INCOMING, metric),
            p_best_legacy=p_between(name, best_legacy, metric),
        )
    return table
