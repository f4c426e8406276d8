"""Every ranker on the same slates: the table by both protocols, its slices, and the probes. (ours)

Shapes: n slates of this table, C columns (a ranker's metric each), D draws.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gr2.artifacts import MetricValue, Scores, Table
from gr2.errors import UserError
from gr2.evaluate import probes
from gr2.evaluate.answers import counts
from gr2.evaluate.headline import DEBIASED, GR2
from gr2.evaluate.metrics import check, per_slate
from gr2.evaluate.propensity import IPW, Examination, chances, ipw_per_slate
from gr2.evaluate.significance import FEW, Draws, certain_share, holm, interval, mcnemar, paired_p, sign_flips
from gr2.evaluate.slices import HeldOut, slices
from gr2.reward.truth import Truth
from gr2.types import Ranking, Slate

INCOMING = "incoming"
Values = dict[str, np.ndarray]


def evaluate(
    slates: Sequence[Slate],
    n_events: Mapping[str, int],
    rankings_by_name: Mapping[str, Sequence[Ranking]],
    best_legacy: str,
    seed: int = 0,
    *,
    held_out: Sequence[HeldOut] = (),
    shuffled: Mapping[str, Sequence[Ranking]] | None = None,
    examination: Examination | None = None,
    truths: Mapping[str, Mapping[str, Truth]] | None = None,
) -> Scores:
    """Score every ranker.

    `n_events`: user -> held-out events tried, as in 04_slates/events.json for a split. An event counts 0 end to end
    when it has no slate, or a logged one in which nothing was taken. `rankings_by_name` must hold `incoming` and
    `best_legacy` (chosen on validation by the caller). `held_out` describes the events, for the slices; without it
    there are those by incoming position only. `shuffled`: ranker -> its rankings of some of the slates when shown in
    another order, named by the stored positions. `examination`: how likely the places of logged slates are looked at;
    where it is known there is a third protocol, `debiased`. `truths`: ranker -> the truth of its thought about each
    slate_id. Raises UserError when a ranker is missing, or does not rank every slate with a positive.
    """
    for name in (INCOMING, best_legacy):
        if name not in rankings_by_name:
            raise UserError(f"no rankings of {name!r} among {sorted(rankings_by_name)}: the table compares with it")
    ranked, rankings = _with_a_positive(slates, rankings_by_name)
    values = {name: per_slate(ranked, of_one) for name, of_one in rankings.items()}
    for name, of_one in rankings.items():
        check(ranked, of_one, values[name])
    users = [s.user_id for s in ranked]
    missed = _misses(users, n_events)
    draws = {"given_target": Draws.of(users, seed), "end_to_end": Draws.of(users + missed, seed)}
    misses: dict[str, list[str]] = {"given_target": [], "end_to_end": missed}
    tables = {p: corrected([compared(values, users, misses[p], best_legacy, draws[p])])[0] for p in draws}
    theta_K = chances(examination)
    if theta_K is not None:
        tables[DEBIASED] = _debiased(ranked, rankings, best_legacy, draws["given_target"], theta_K)
    sliced = {n: v for n, v in values.items() if n in (INCOMING, best_legacy) or n.startswith(GR2)}
    return Scores(
        n_slates=len(ranked),
        n_events=len(users) + len(missed),
        best_legacy=best_legacy,
        table=tables,
        slices={p: _slices(sliced, ranked, held_out, best_legacy, draws[p], p == "end_to_end") for p in draws},
        probes={
            name: _probes(
                ranked, of_one, (shuffled or {}).get(name, ()), (truths or {}).get(name), draws["given_target"]
            )
            for name, of_one in rankings.items()
        },
        answers={name: counts(of_one) for name, of_one in rankings.items()},
        first_from={name: probes.first_from(of_one) for name, of_one in rankings.items()},
        target_at=probes.target_at(ranked),
    )


def _with_a_positive(
    slates: Sequence[Slate], rankings: Mapping[str, Sequence[Ranking]]
) -> tuple[list[Slate], dict[str, list[Ranking]]]:
    """The slates in which something was taken, and their rankings."""
    ranked = [s for s in slates if any(s.gains)]
    empty = {s.slate_id for s in slates if not any(s.gains)}
    return ranked, {name: [r for r in of_one if r.slate_id not in empty] for name, of_one in rankings.items()}


def _misses(users: Sequence[str], n_events: Mapping[str, int]) -> list[str]:
    """The user of every event without a slate."""
    missed = dict(n_events)
    for user, n in Counter(users).items():
        missed[user] = missed.get(user, 0) - n
        if missed[user] < 0:
            raise UserError(f"user {user}: more slates than events in 04_slates/events.json; run s04_slates again")
    return [user for user, n in missed.items() for _ in range(n)]


def compared(
    values: Mapping[str, Values], users: Sequence[str], missed: Sequence[str], best_legacy: str, draws: Draws
) -> Table:
    """One table: each ranker's (n,) values of the slates of `users`, and a 0 for each of `missed`.

    R@1 is tested by McNemar's test, all others by the paired bootstrap, or exactly where users are few; not corrected.
    """
    columns = [(name, metric) for name in values for metric in values[name]]
    means_DC = draws.means([values[name][metric] for name, metric in columns], users, missed)
    means = {column: means_DC[:, c] for c, column in enumerate(columns)}
    n = len(users) + len(missed)
    table: Table = {name: {} for name in values}
    for name, metric in columns:
        mine = values[name][metric]
        low, high = certain_share(np.append(mine, np.zeros(len(missed)))) or interval(means[name, metric])
        row = MetricValue(value=float(mine.sum() / n), low=low, high=high, n=n)
        for reference, other in (("incoming", INCOMING), ("best_legacy", best_legacy)):
            if name != other:
                theirs = values[other][metric]
                observed, difference_D = float((mine - theirs).sum() / n), means[name, metric] - means[other, metric]
                if metric == "R@1":
                    p = mcnemar(mine, theirs)
                elif len(set(users)) < FEW:
                    p = sign_flips(mine - theirs, users)
                else:
                    p = paired_p(observed, difference_D)
                found: dict[str, Any] = {f"p_{reference}": p, f"gain_{reference}": (observed, *interval(difference_D))}
                row = replace(row, **found)
        table[name][metric] = row
    return table


def _debiased(
    slates: Sequence[Slate],
    rankings: Mapping[str, Sequence[Ranking]],
    best_legacy: str,
    draws: Draws,
    propensities_K: np.ndarray,
) -> Table:
    """The table of inverse-propensity-weighted values, under the plain metrics' names. A hit has a weight, so R@1 has
    the paired bootstrap too; a missed click's weight is not known, so there is no end-to-end form."""
    values = {name: ipw_per_slate(slates, of_one, propensities_K) for name, of_one in rankings.items()}
    table = corrected([compared(values, [s.user_id for s in slates], (), best_legacy, draws)])[0]
    return {name: {metric.removeprefix(IPW): v for metric, v in row.items()} for name, row in table.items()}


def corrected(tables: Sequence[Table]) -> list[Table]:
    """The tables with Holm's correction over all of them together: one family for each reference."""
    cells = [(t, name, metric) for t, table in enumerate(tables) for name in table for metric in table[name]]
    result = [{name: dict(row) for name, row in table.items()} for table in tables]
    for reference in ("incoming", "best_legacy"):
        p_of = {c: getattr(tables[c[0]][c[1]][c[2]], f"p_{reference}") for c in cells}
        tested = [c for c in cells if p_of[c] is not None]
        for (t, name, metric), p in zip(tested, holm([p_of[c] for c in tested]), strict=True):
            holm_p: dict[str, Any] = {f"holm_{reference}": p}
            result[t][name][metric] = replace(result[t][name][metric], **holm_p)
    return result


def _slices(
    values: Mapping[str, Values],
    slates: Sequence[Slate],
    held_out: Sequence[HeldOut],
    best_legacy: str,
    draws: Draws,
    end_to_end: bool,
) -> dict[str, dict[str, Table]]:
    """One table a slice that has an event, Holm-corrected over all slices together."""
    found = [part for part in slices(slates, held_out) if len(part.rows) or (end_to_end and part.missed)]
    if end_to_end:  # an event that was not retrieved has no incoming position
        found = [part for part in found if part.whole]
    tables = [
        compared(
            {name: {metric: v[part.rows] for metric, v in of_one.items()} for name, of_one in values.items()},
            [slates[i].user_id for i in part.rows],
            part.missed if end_to_end else (),
            best_legacy,
            draws,
        )
        for part in found
    ]
    cut: dict[str, dict[str, Table]] = {}
    for part, table in zip(found, corrected(tables), strict=True):
        cut.setdefault(part.by, {})[part.name] = table
    return cut


def _probes(
    slates: Sequence[Slate],
    rankings: Sequence[Ranking],
    shuffled: Sequence[Ranking],
    truths: Mapping[str, Truth] | None,
    draws: Draws,
) -> dict[str, MetricValue]:
    """Each probe's mean over the slates, or over those that were shuffled, with its interval."""
    user_of = {s.slate_id: s.user_id for s in slates}
    asked = {r.slate_id for r in shuffled}
    both = [r for r in rankings if r.slate_id in asked]
    groups = [(rankings, probes.of_each(slates, rankings))]
    if both:
        groups.append((both, probes.shuffle_agreement(both, shuffled)))
    if truths:
        groups.append((rankings, probes.true_parts([truths[r.slate_id] for r in rankings])))
    row = {}
    for of, values in groups:
        means_DC = draws.means(list(values.values()), [user_of[r.slate_id] for r in of])
        for c, (name, values_n) in enumerate(values.items()):
            share = certain_share(values_n) if name.endswith(("_share", "_first")) else None
            low, high = share or interval(means_DC[:, c])
            row[name] = MetricValue(value=float(values_n.mean()), low=low, high=high, n=len(values_n))
    return row
