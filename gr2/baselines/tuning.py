"""One tuning budget for every learned legacy re-ranker: POINTS grid points each, on the same slates. (ours)

A fifth of the training *users* decides how many rounds a grid point is fitted (trees by NDCG@3, passes by the loss);
validation slates decide between the points, by the mean of R@1 and N@3; then one fit on all training slates with that
point and number. Where there are practice slates, the best point is tried with these beside the real ones too, and
validation decides whether they help: a rival of its own. Nothing is fitted on validation slates, and test slates are
not seen here at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from typing import Any

import numpy as np

from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.errors import UserError
from gr2.evaluate.propensity import Examination, mean_metrics
from gr2.progress import track
from gr2.retrieve.folds import HELD_OUT, held_out_fifth
from gr2.types import Slate

POINTS = 6
PRACTISED = "_practised"
"""Behind the name of a rival that had practice slates too."""
Point = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted scorer."""

    rounds: int
    """Trees or passes."""
    scores: Callable[[Sample], np.ndarray]
    """(S, K), higher is better; anything where padded."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A kind of re-ranker."""

    name: str
    grid: tuple[Point, ...]
    """POINTS of them."""
    fit: Callable[[Sample, Point, int, Sample | int], Fitted]
    """From training slates, a grid point, a seed, and held-out slates that say when to stop or the number of rounds."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The slates as tuning uses them, with their features."""

    train: Sample
    inside: Sample
    """The training slates of four users in five."""
    outside: Sample
    """Those of the fifth."""
    valid: Sample
    practised: Sample | None
    """Training and practice slates; None where there are none of these."""
    practised_inside: Sample | None
    """Those of the four users in five."""
    examination: Examination | None = None
    """How likely the places of logged slates are looked at: clicks weigh accordingly, in fitting and in choosing."""

    @classmethod
    def of(
        cls,
        train: Sequence[Slate],
        valid: Sequence[Slate],
        knowledge: Knowledge,
        seed: int,
        examination: Examination | None = None,
        practice: Sequence[Slate] = (),
    ) -> "Parts":
        """Raises UserError when there are too few slates to hold any out."""
        outside_S = held_out_fifth(train, seed)
        if not outside_S.any() or not valid:
            users = {s.user_id for s in train}
            raise UserError(
                f"legacy re-rankers: {len(users)} users with training slates and {len(valid)} validation slates; "
                f"they need {HELD_OUT} and 1: raise [slates] train_events_per_user or take more data"
            )
        sample = Sample.of(train, knowledge, examination)
        held_out = {s.user_id for s in compress(train, outside_S)}
        practised = Sample.of([*train, *practice], knowledge) if practice else None
        return cls(
            train=sample,
            inside=sample.at(~outside_S),
            outside=sample.at(outside_S),
            valid=Sample.of(valid, knowledge),
            practised=practised,
            practised_inside=practised
            and practised.at(np.array([s.user_id not in held_out for s in practised.slates])),
            examination=examination,
        )


@dataclass(frozen=True, kw_only=True)
class Try:
    """A grid point on the validation slates."""

    point: Point
    practised: bool
    """Whether it was fitted on practice slates too."""
    rounds: int
    recall_at_1: float
    ndcg_at_3: float

    @property
    def value(self) -> float:
        """What the points are chosen by."""
        return (self.recall_at_1 + self.ndcg_at_3) / 2


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The chosen re-ranker and all that was tried."""

    fitted: Fitted
    tries: tuple[Try, ...]
    chosen: Try

    def record(self) -> dict[str, Any]:
        """For tuning.json: the points with their validation values, in the order of the grid, and the chosen one."""
        return {"chosen": asdict(self.chosen), "tried": [asdict(t) for t in self.tries]}


def tune(method: Method, parts: Parts, seed: int) -> Tuned:
    """Try every point of the grid, take the best (of equals the first) and fit it on all training slates."""
    tries = [tried(method, parts, parts.inside, p, seed) for p in track(method.grid, f"{method.name} grid")]
    chosen = max(tries, key=lambda t: t.value)
    fitted = method.fit(parts.train, chosen.point, seed, chosen.rounds)
    return Tuned(fitted=fitted, tries=tuple(tries), chosen=chosen)


def practise(method: Method, parts: Parts, plain: Tuned, seed: int) -> Tuned | None:
    """The best point of `tune`, fitted on training and practice slates where that is better on validation slates; else
    as it was. None where there are no practice slates."""
    if parts.practised is None or parts.practised_inside is None:
        return None
    one = tried(method, parts, parts.practised_inside, plain.chosen.point, seed)
    if one.value <= plain.chosen.value:
        return replace(plain, tries=(plain.chosen, one))
    fitted = method.fit(parts.practised, one.point, seed, one.rounds)
    return Tuned(fitted=fitted, tries=(plain.chosen, one), chosen=one)


def tried(method: Method, parts: Parts, inside: Sample, point: Point, seed: int) -> Try:
    """The point fitted on these slates, on the validation slates."""
    fitted = method.fit(inside, point, seed, parts.outside)
    values = mean_metrics(parts.valid.slates, parts.valid.ranked(fitted.scores(parts.valid)), parts.examination)
    return Try(
        point=point,
        practised=inside is parts.practised_inside,
        rounds=fitted.rounds,
        recall_at_1=values["R@1"],
        ndcg_at_3=values["N@3"],
    )
