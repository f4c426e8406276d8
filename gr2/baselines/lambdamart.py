"""LambdaMART (LightGBM's lambdarank) on the slates: the strongest legacy re-ranker.

Trained on the training slates only. Tuning budget, the same for every run: the grid below; the number
of trees by early stopping on NDCG@3 of a fifth of the training users; the grid point by NDCG@3 of the
validation slates; then one fit on all training slates with that point and number of trees. (ours)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import lightgbm as lgb
import numpy as np

from gr2.baselines.features import Knowledge, features
from gr2.baselines.simple import rank_by_score
from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate
from gr2.progress import track
from gr2.types import Ranking, Slate

GRID = tuple({"num_leaves": leaves, "min_data_in_leaf": least} for leaves, least in product((4, 8, 16), (50, 200)))
FIXED: dict[str, Any] = {
    "objective": "lambdarank",
    "metric": "ndcg",
    "eval_at": [3],
    "learning_rate": 0.05,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_pre_filter": False,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
MAX_TREES, PATIENCE = 400, 40
HELD_OUT = 5
"""One training user in five decides the number of trees."""


@dataclass(frozen=True, kw_only=True)
class LambdaMart:
    """A fitted ranker with what its features are computed from."""

    booster: lgb.Booster
    knowledge: Knowledge
    chosen: dict[str, Any]
    """The grid point, the number of trees and its validation NDCG@3."""


def fit(train: Sequence[Slate], valid: Sequence[Slate], knowledge: Knowledge, seed: int) -> LambdaMart:
    """Tune and fit. Raises UserError when there are too few slates to hold any out."""
    users = sorted({s.user_id for s in train})
    if len(users) < HELD_OUT or not valid:
        raise UserError(
            f"LambdaMART: {len(users)} users with training slates and {len(valid)} validation slates; "
            f"it needs {HELD_OUT} and 1: raise [slates] train_events_per_user or take more data"
        )
    held_out = set(np.random.default_rng(seed).permutation(users)[: len(users) // HELD_OUT])
    held_in = np.array([s.user_id not in held_out for s in train])
    names, matrices = features(train, knowledge)
    _, valid_matrices = features(valid, knowledge)
    inside = _dataset(train, matrices, names, held_in)
    outside = _dataset(train, matrices, names, ~held_in, inside)
    tries = []
    for point in track(GRID, "LambdaMART grid"):
        booster = _boost(inside, MAX_TREES, point, seed, outside)
        value = float(per_slate(valid, _order(booster, valid, valid_matrices))["N@3"].mean())
        tries.append((value, booster.best_iteration, point))
    value, trees, point = max(tries, key=lambda t: t[0])
    booster = _boost(_dataset(train, matrices, names, held_in | True), trees, point, seed)
    return LambdaMart(booster=booster, knowledge=knowledge, chosen={**point, "trees": trees, "valid N@3": value})


def rank(model: LambdaMart, slates: Sequence[Slate]) -> list[Ranking]:
    """Order each slate by the model's score; equals keep the incoming order."""
    return _order(model.booster, slates, features(slates, model.knowledge)[1])


def _order(booster: lgb.Booster, slates: Sequence[Slate], matrices: Sequence[np.ndarray]) -> list[Ranking]:
    scores_M = np.asarray(booster.predict(np.concatenate(matrices)))
    scores_of = np.split(scores_M, np.cumsum([len(m) for m in matrices])[:-1])
    return [rank_by_score(s, scores) for s, scores in zip(slates, scores_of, strict=True)]


def _boost(
    data: lgb.Dataset, trees: int, point: dict[str, Any], seed: int, stop_on: lgb.Dataset | None = None
) -> lgb.Booster:
    """Fit `trees` trees, or fewer: stop when NDCG@3 of `stop_on` has not risen for PATIENCE trees."""
    params = {**FIXED, **point, "seed": seed}
    if stop_on is None:
        return lgb.train(params, data, num_boost_round=trees)
    stopping = lgb.early_stopping(PATIENCE, verbose=False)
    return lgb.train(params, data, num_boost_round=trees, valid_sets=[stop_on], callbacks=[stopping])


def _dataset(
    slates: Sequence[Slate],
    matrices: Sequence[np.ndarray],
    names: list[str],
    chosen: np.ndarray,
    reference: lgb.Dataset | None = None,
) -> lgb.Dataset:
    """The slates at a (S,) mask."""
    rows = np.flatnonzero(chosen).tolist()
    return lgb.Dataset(
        np.concatenate([matrices[i] for i in rows]),
        label=np.concatenate([slates[i].gains for i in rows]),
        group=[len(slates[i].gains) for i in rows],
        reference=reference,
        feature_name=names,
        params=FIXED,
    )
