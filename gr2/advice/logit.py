"""What counts say of a slate's candidates, beside the model's words: a conditional logit over the features that the
legacy re-rankers see. (ours)

Weights learn from timelines what they can; a look-up holds the timelines themselves. On Beauty, what follows the newest
event, what sold last week and the likeness of texts say more than a model of a million weights that reads ids, and on
MovieLens-100K the neighbours' votes do (docs/log.md). Their sum costs no training, so a ranker's score is the
log-probability of an id and this advice (`lm.rank`).

The pre-ranker's scores are left out: its places tell as much, and a request need not bring scores.

Shapes: S slates, K candidates, F features, G columns of the logit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from gr2.advice.conditional_logit import fit
from gr2.advice.counts import Counts, CrossCounts
from gr2.advice.features import Knowledge, features
from gr2.advice.trees import grow
from gr2.artifacts import Corpus
from gr2.errors import UserError
from gr2.record import read_json, write_json
from gr2.types import Slate

SCORES = ("score", "score_below_first")
LEFT_OUT = (*SCORES, "history_length")
"""What the logit does not read: scores, and what is equal over a slate."""
SHARES = ("together", "near", "after")
"""How the names of co-visitation shares begin; their logarithms are read."""
LEAST = 1e-3
"""Added to a share before its logarithm is taken."""
RIDGE = 2e-3
"""Penalty on the squared weights a training slate, of columns scaled to deviation one."""
META, WEIGHTS, VECTORS = "advisor.json", "weights", "vectors"
FILE, TREES = "advisor.safetensors", "advisor.trees.txt"


@dataclass(frozen=True, kw_only=True)
class Advisor:
    """A fitted logit and all that its features are computed from. Written by s10_direct."""

    knowledge: Knowledge
    names: tuple[str, ...]
    """(G,) of the columns."""
    weights: np.ndarray
    """(G,) float64."""
    trees: lgb.Booster | None
    """What is added to the logit (`advice.trees`); None where there were too few users."""
    history: int
    """Newest events that it reads: as many as the longest history of a training slate had."""

    def advise(self, slates: Sequence[Slate]) -> tuple[Slate, ...]:
        """The slates with their advice: scores of logit and trees, less their mean. Slates must have their votes."""
        if not self.names:
            return tuple(replace(s, advice=(0.0,) * len(s.candidates)) for s in slates)
        shown = [replace(s, history=s.history[-self.history :]) for s in slates]
        names, matrices = features(shown, self.knowledge)
        advised = [columns(names, m)[1] @ self.weights for m in matrices]
        if self.trees and slates:
            grown_M = np.asarray(self.trees.predict(np.concatenate(matrices)[:, but(names, SCORES)], num_threads=1))
            grown = np.split(grown_M, np.cumsum([len(m) for m in matrices])[:-1])
            advised = [a + g - g.mean() for a, g in zip(advised, grown, strict=True)]
        return tuple(replace(s, advice=tuple(a.tolist())) for s, a in zip(slates, advised, strict=True))

    def save(self, folder: Path) -> None:
        """All but the catalogue and the ids. Counts of everyone only: nothing tells one user from another."""
        known = {} if self.knowledge.vectors is None else {VECTORS: self.knowledge.vectors.astype(np.float16)}
        save_file({WEIGHTS: self.weights, **known, **self.knowledge.counts.everyone.tensors()}, folder / FILE)
        if self.trees:
            self.trees.save_model(folder / TREES)
        write_json(folder / META, {"names": self.names, "history": self.history, "trees": self.trees is not None})

    @classmethod
    def load(cls, folder: Path, corpus: Corpus, codes: np.ndarray) -> "Advisor":
        """What `save` wrote, for any slates but training slates. Raises UserError when it is not there."""
        meta = read_json(folder / META)
        if not isinstance(meta, dict):
            raise UserError(f"{folder / META}: written by an older gr2; make stage 10_direct again")
        try:
            tensors = load_file(folder / FILE)
            trees = lgb.Booster(model_file=folder / TREES) if meta["trees"] else None
        except (FileNotFoundError, SafetensorError, KeyError, lgb.basic.LightGBMError) as error:
            raise UserError(f"{folder / FILE}: {error}; make stage 10_direct again") from None
        vectors = tensors[VECTORS].astype(np.float32) if VECTORS in tensors else None
        counts = CrossCounts(everyone=Counts.of(tensors), without_fold=(), fold_of={})
        return cls(
            knowledge=Knowledge(corpus=corpus, counts=counts, vectors=vectors, codes=codes),
            names=tuple(meta["names"]),
            weights=tensors[WEIGHTS],
            trees=trees,
            history=meta["history"],
        )


def fit_advisor(train: Sequence[Slate], knowledge: Knowledge, weights_S: np.ndarray | None = None) -> Advisor:
    """The weights under which the logit gives the targets of the training slates most probability, and trees upon it.
    They are 0 where there is no training slate. `weights_S`: what each slate counts; left out, all count alike."""
    if not train:
        return Advisor(knowledge=knowledge, names=(), weights=np.zeros(0), trees=None, history=1)
    if knowledge.vectors is not None:  # as `save` keeps them: a tree sees the smallest difference
        knowledge = replace(knowledge, vectors=knowledge.vectors.astype(np.float16).astype(np.float32))
    names, matrices = features(train, knowledge)
    read = [columns(names, matrix) for matrix in matrices]
    x_SKG, real_SK = padded([matrix for _, matrix in read])
    scale_G = x_SKG[real_SK].std(0)
    scale_G[scale_G == 0] = 1
    targets_S = np.array([s.target for s in train])
    weights_G = fit(x_SKG / scale_G, real_SK, targets_S, RIDGE * len(train), weights_S) / scale_G
    logit_M = (x_SKG @ weights_G)[real_SK]
    counts_S = np.ones(len(train)) if weights_S is None else weights_S
    return Advisor(
        knowledge=knowledge,
        names=read[0][0],
        weights=weights_G,
        trees=grow(train, np.concatenate(matrices)[:, but(names, SCORES)], logit_M, counts_S),
        history=max(1, *(len(s.history) for s in train)),
    )


def but(names: Sequence[str], left_out: Sequence[str]) -> list[int]:
    """Columns of all features but some; the trees read all but scores."""
    return [f for f, name in enumerate(names) if name not in left_out]


def columns(names: Sequence[str], matrix_KF: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names (G,) and (K, G) float64 of what the logit reads: less the slate's mean, 0 where unknown."""
    kept = but(names, LEFT_OUT)
    x_KG = matrix_KF[:, kept].astype(np.float64)
    read = [names[f] for f in kept]
    for g, name in enumerate(read):
        if name.startswith(SHARES):
            x_KG[:, g] = np.log(x_KG[:, g] + LEAST)
        elif name == "rank":
            x_KG[:, g] = -np.log1p(x_KG[:, g])
    known = ~np.isnan(x_KG)
    mean_G = np.where(known, x_KG, 0).sum(0) / known.sum(0).clip(1)
    return tuple(read), np.where(known, x_KG - mean_G, 0)


def padded(matrices: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(S, K, G) and its (S, K) mask: real candidates first, zeros behind the shorter slates."""
    k = max(len(m) for m in matrices)
    x_SKG = np.stack([np.pad(m, ((0, k - len(m)), (0, 0))) for m in matrices])
    return x_SKG, np.arange(k) < np.array([[len(m)] for m in matrices])


def advice_of(slates: Sequence[Slate]) -> Tensor:
    """(S, K) for slates of one K; zeros where nobody was asked."""
    return torch.tensor([s.advice or (0.0,) * len(s.candidates) for s in slates])
