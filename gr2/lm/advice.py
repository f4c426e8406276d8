"""The neighbours' votes beside the model's words: a ranker's score is log P(id | text) + advice x log votes. (ours)

Weights learn from timelines what they can; a look-up holds the timelines themselves, and on MovieLens-100K its votes
alone rank better than a model of a million weights that is shown them (docs/log.md). Added to the scores, they need not
be learned, and the model is trained on what they leave open.

Shapes: S slates, K candidates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gr2.retrieve.neighbours import NO_VOTE
from gr2.types import Slate

NEWTON_STEPS = 20


def log_votes(slates: Sequence[Slate]) -> Tensor:
    """(S, K) for slates of one K; zeros where the neighbours were not asked."""
    return torch.tensor([s.votes or [1.0 - NO_VOTE] * len(s.candidates) for s in slates]).add(NO_VOTE).log()


def fit_advice(slates: Sequence[Slate]) -> float:
    """The weight with which votes alone best say who is taken: a conditional logit with one weight, by Newton's steps
    from 0. It is 0 where votes do not differ."""
    x_SK = log_votes(slates).double()
    taken_S = x_SK[torch.arange(len(slates)), [s.target for s in slates]]
    weight = 0.0
    for _ in range(NEWTON_STEPS):
        p_SK = (weight * x_SK).softmax(-1)
        mean_S = (p_SK * x_SK).sum(-1)
        curvature = ((p_SK * x_SK.square()).sum(-1) - mean_S.square()).sum().item()
        if curvature <= 0:
            break
        weight += (taken_S - mean_S).sum().item() / curvature
    return weight
