"""The evidence teacher: a softmax over the candidates of weighed evidence. (ours)

The weights are a conditional logit (`advice.conditional_logit`) fitted to the training slates' targets, cross-fitted
over folds of users: nobody's slates, in any split, are judged by weights that saw that user.

When it writes traces it hears the advice on a slate (`Opinions.hearing`), which decides, and evidence gives the
reasons: its student is shown that advice, and cannot follow a judgement whose grounds it does not see.

Shapes: S slates, K candidates, F features, T kinds of evidence, H history events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gr2.advice.conditional_logit import fit
from gr2.artifacts import Corpus
from gr2.errors import UserError
from gr2.evaluate.propensity import Examination, weights_of
from gr2.retrieve.folds import slate_folds
from gr2.teach.evidence import FEATURES, HISTORY, KINDS, count, find
from gr2.teach.rows import Rows, as_rows
from gr2.types import Slate, Split

RIDGE = 10.0
"""Penalty on the squared weights, against a log-likelihood summed over slates."""


@dataclass(frozen=True, kw_only=True)
class Opinions:
    """What the teacher holds of some slates before it reasons about them."""

    slates: tuple[Slate, ...]
    rows: Rows
    strengths: np.ndarray
    """(S, K, T) how far each kind of evidence lifts a candidate above the slate's mean, in nats."""
    totals: np.ndarray
    """(S, K) what decides, in nats: the sum of the strengths, or the slates' advice."""
    links: np.ndarray
    """(S, K, H) how strongly each history event, newest first, speaks for each candidate by co-visits."""

    @cached_property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """Candidate positions of each slate, best first; equals keep the incoming order."""
        totals = np.where(self.rows.real, self.totals, -np.inf)
        ranked = np.argsort(-totals, axis=1, kind="stable").tolist()
        return tuple(tuple(order[: len(s.candidates)]) for order, s in zip(ranked, self.slates, strict=True))

    def hearing(self) -> "Opinions":
        """Those of one who goes by the slates' advice, where they have any."""
        totals = self.totals.copy()
        for at, slate in enumerate(self.slates):
            totals[at, : len(slate.advice)] = slate.advice
        return replace(self, totals=totals)

    def of(self, split: Split) -> "Opinions":
        """Those on the slates of one split."""
        where = np.array([i for i, s in enumerate(self.slates) if s.split is split], dtype=np.int64)
        return Opinions(
            slates=tuple(self.slates[i] for i in where),
            rows=self.rows.part(where),
            strengths=self.strengths[where],
            totals=self.totals[where],
            links=self.links[where],
        )


def opine(
    corpus: Corpus, slates: Sequence[Slate], folds: int, seed: int, examination: Examination | None = None
) -> Opinions:
    """Fit the teacher on the training slates and judge all slates. Clicks of logged slates weigh as the chances of
    their places say, where `examination` knows them. Raises UserError when no slate is for training."""
    training = np.array([s.split is Split.TRAIN for s in slates], dtype=bool)
    if not training.any():
        raise UserError("04_slates: no training slates to fit the teacher on; lower [slates] min_history or raise k")
    evidence = count(corpus)
    rows = as_rows(slates, corpus.row, evidence.visits.user_row, HISTORY)
    findings = find(evidence, rows)
    features = centred(findings.features, rows.real, training)
    fold = slate_folds(slates, folds, seed)
    targets = np.array([s.target for s in slates])
    counts = np.ones(len(slates))
    known = weights_of([s for s in slates if s.split is Split.TRAIN], examination)
    counts[training] = 1.0 if known is None else known
    strengths = np.zeros((*features.shape[:2], len(KINDS)))
    for number in range(folds):
        others, judged = training & (fold != number), fold == number
        weights = fit(features[others], rows.real[others], targets[others], RIDGE, counts[others])
        strengths[judged] = by_kind(features[judged] * weights)
    return Opinions(slates=tuple(slates), rows=rows, strengths=strengths, totals=strengths.sum(2), links=findings.links)


def centred(features: np.ndarray, real: np.ndarray, training: np.ndarray) -> np.ndarray:
    """(S, K, F) with a mean of 0 in each slate and a deviation of 1 over the training slates; constants stay 0."""
    mask = real[:, :, None]
    mean = (features * mask).sum(1, keepdims=True, dtype=np.float64) / mask.sum(1, keepdims=True)
    level = np.where(mask, features - mean, 0.0)
    deviation = np.sqrt((level[training] ** 2).sum((0, 1)) / real[training].sum())
    return level / np.where(deviation > 1e-9, deviation, 1.0)


def by_kind(lifts: np.ndarray) -> np.ndarray:
    """(S, K, F) -> (S, K, T): the features' lifts summed by kind."""
    kinds = np.array([[kind == name for name in KINDS] for _, kind in FEATURES], dtype=np.float64)
    return lifts @ kinds
