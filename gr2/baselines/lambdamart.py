"""LambdaMART (LightGBM's lambdarank) on the slates: boosted trees whose loss looks at pairs within a slate.

Tuned as `tuning` says; a round is a tree. (Burges 2010; the grid is ours)
"""

from itertools import product
from typing import Any

import lightgbm as lgb
import numpy as np

from gr2.advice.sample import Sample
from gr2.advice.trees import LAMBDARANK, dataset
from gr2.baselines.tuning import Fitted, Method, Point

GRID = tuple({"num_leaves": leaves, "min_data_in_leaf": least} for leaves, least in product((4, 8, 16), (50, 200)))
FIXED: dict[str, Any] = LAMBDARANK | {"metric": "ndcg", "eval_at": [3]}
MAX_TREES, PATIENCE = 400, 40


def fit(train: Sample, point: Point, seed: int, stop: Sample | int) -> Fitted:
    """`stop` trees, or until NDCG@3 of the slates in `stop` has not risen for PATIENCE trees."""
    params, data = {**FIXED, **point, "seed": seed}, dataset(train, FIXED)
    if isinstance(stop, int):
        booster = lgb.train(params, data, num_boost_round=stop)
    else:
        stopping = lgb.early_stopping(PATIENCE, verbose=False)
        outside = dataset(stop, FIXED, data)
        booster = lgb.train(params, data, num_boost_round=MAX_TREES, valid_sets=[outside], callbacks=[stopping])

    def scores(sample: Sample) -> np.ndarray:
        scores_SK = np.zeros(sample.real_SK.shape)
        scores_SK[sample.real_SK] = booster.predict(sample.x_SKF[sample.real_SK])
        return scores_SK

    return Fitted(rounds=stop if isinstance(stop, int) else booster.best_iteration, scores=scores)


METHOD = Method(name="lambdamart", grid=GRID, fit=fit)
