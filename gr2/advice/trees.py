"""Boosted trees that begin where the logit ends: what is not linear in the features. (LightGBM's lambdarank, Burges
2010; upon a logit: ours)

Shapes: S slates, K candidates, M candidates of all slates.
"""

from typing import Any

import lightgbm as lgb
import numpy as np

from gr2.advice.sample import Sample
from gr2.retrieve.folds import held_out_fifth

LAMBDARANK: dict[str, Any] = {
    "objective": "lambdarank",
    "learning_rate": 0.05,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_pre_filter": False,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
"""What the advice and the legacy re-ranker LambdaMART grow trees by."""
PARAMS = LAMBDARANK | {"metric": "none", "num_leaves": 8, "min_data_in_leaf": 200, "num_threads": 1, "seed": 0}
MOST, PATIENCE = 500, 50


def nats(scores_M: np.ndarray, data: lgb.Dataset) -> tuple[str, float, bool]:
    """Weighted mean over slates of -log P(a best candidate comes first): less noisy than a metric of ranks."""
    sizes_S, gains_M = np.asarray(data.get_group(), int), np.asarray(data.get_label(), float)
    starts_S = np.cumsum(sizes_S) - sizes_S
    exp_M = np.exp(scores_M - np.repeat(np.maximum.reduceat(scores_M, starts_S), sizes_S))
    best_M = gains_M == np.repeat(np.maximum.reduceat(gains_M, starts_S), sizes_S)
    share_S = np.add.reduceat(exp_M * best_M, starts_S) / np.add.reduceat(exp_M, starts_S)
    weights_M = data.get_weight()  # forgotten by LightGBM where all are 1
    weights_S = None if weights_M is None else np.asarray(weights_M, float)[starts_S]
    return "nats", float(np.average(-np.log(share_S), weights=weights_S)), False


def grow(train: Sample, logit_SK: np.ndarray) -> lgb.Booster | None:
    """Trees to add to the logit's scores; None where there are too few users to hold any out."""
    outside_S = held_out_fifth(train.slates, seed=0)
    if not outside_S.any():
        return None

    inside = dataset(train.at(~outside_S), PARAMS, start_SK=logit_SK[~outside_S])
    outside = dataset(train.at(outside_S), PARAMS, inside, start_SK=logit_SK[outside_S])
    stopping = lgb.early_stopping(PATIENCE, verbose=False)
    tried = lgb.train(PARAMS, inside, MOST, valid_sets=[outside], feval=nats, callbacks=[stopping])
    return lgb.train(PARAMS, dataset(train, PARAMS, start_SK=logit_SK), max(1, tried.best_iteration))


def dataset(
    sample: Sample,
    params: dict[str, Any],
    reference: lgb.Dataset | None = None,
    start_SK: np.ndarray | None = None,
) -> lgb.Dataset:
    """A sample's real candidates, slate by slate. `reference`: the training data that held-out data are binned as;
    `start_SK`: the scores that the trees begin from, 0 if left out."""
    sizes_S = sample.real_SK.sum(1)
    return lgb.Dataset(
        sample.x_SKF[sample.real_SK],
        label=sample.gains_SK[sample.real_SK],
        group=sizes_S,
        weight=np.repeat(sample.weights_S, sizes_S),
        init_score=None if start_SK is None else start_SK[sample.real_SK],
        reference=reference,
        params=params,
    )
