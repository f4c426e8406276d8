"""Keep or drop: a tiny scorer says of each event of a history how much it is worth keeping. (ours)

The papers' compressor is a language model that writes a shorter text. A context of semantic ids has no words to
spare, so this one extracts: the text out is some of the events of the text in, in their order. It sees the history
alone and no candidate, so one short context serves every slate of that history, every rollout and every epoch.

A draw takes n events one after the other without putting back, each from the softmax of the scores of what is left
(Plackett-Luce), so its log-probability is exact. When compressing nothing is drawn: the n events of highest score are
kept, the likeliest draw. n is the budget and not learned: with independent choices instead, the rewards of P2 taught
only to keep all that is allowed and more (docs/09-compress.md).

Shapes: E events of a history, newest last; B histories; G draws each; N items; D dimensions; F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gr2.rl.plackett_luce import rank_log_probs, sample_orders

FEATURES = ("age", "log age", "popularity", "like the newest", "like all", "repeated later")
RECENT = 10
"""Newest events whose mean is "the newest"."""
HIDDEN = 16


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What is known of items."""

    vectors: Tensor
    """(N, D) unit length."""
    popularity: Tensor
    """(N,) standardised logarithm of how often each was taken in training events."""

    @classmethod
    def of(cls, vectors_ND: Tensor, counts_N: Tensor) -> "Catalogue":
        logs_N = counts_N.float().log1p()
        return cls(
            vectors=normalize(vectors_ND.float() - vectors_ND.float().mean(0), dim=-1),
            popularity=(logs_N - logs_N.mean()) / logs_N.std().clamp_min(1e-6),
        )


def features(catalogue: Catalogue, rows: Sequence[int], newest: int) -> Tensor:
    """(E, F) of a history of catalogue rows, oldest first, of at most `newest` events; see FEATURES.

    "repeated later" is the largest cosine to any newer event, 0 for the newest.
    """
    own_ED = catalogue.vectors[torch.tensor(rows)]
    age_E = torch.arange(len(rows) - 1, -1, -1.0)
    alike_EE = own_ED @ own_ED.T
    later_EE = torch.ones_like(alike_EE).triu(1).bool()
    repeated_E = alike_EE.masked_fill(~later_EE, -1.0).max(-1).values
    repeated_E[-1] = 0.0
    return torch.stack(
        [
            age_E / newest,
            age_E.log1p() / log(1 + newest),
            catalogue.popularity[torch.tensor(rows)],
            own_ED @ normalize(own_ED[-RECENT:].mean(0), dim=0),
            own_ED @ normalize(own_ED.mean(0), dim=0),
            repeated_E,
        ],
        dim=-1,
    )


class Scorer(nn.Module):
    """Features -> the score of an event; all alike before any training."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(len(FEATURES), HIDDEN)
        self.out = nn.Linear(HIDDEN, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, features_EF: Tensor) -> Tensor:
        """(E,) scores, in full precision whatever is around it."""
        with torch.autocast(features_EF.device.type, enabled=False):
            return self.out(torch.tanh(self.hidden(features_EF)))[..., 0]


def draw(scores_E: Tensor, draws: int) -> Tensor:
    """(G, E) events in the order in which they are taken; of n the first n are kept."""
    return sample_orders(scores_E[None], draws)[0]


def log_prob(scores_E: Tensor, orders_GE: Tensor, n: int) -> Tensor:
    """(G,) exact log-probability of taking the first n in this order."""
    return rank_log_probs(scores_E[None], orders_GE[None])[0, :, :n].sum(-1)


def highest(scores_E: Tensor, n: int) -> list[int]:
    """Places of the n highest scores, rising; of equals the newer."""
    newest_first = torch.argsort(scores_E.flip(0), descending=True, stable=True)[:n]
    return sorted((len(scores_E) - 1 - newest_first).tolist())
