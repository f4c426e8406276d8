"""PRM that reads the person's newest events too: each candidate attends to them, as in DIN (Zhou et al. 2018).

DIN's activation unit weighs the events by what a small network makes of candidate and event; here it also sees how long
ago the event was, and the weights are a softmax over the events. What comes of it is added to the candidate where PRM
(`prm`) reads its features, so the list is read with it. Items are known by their texts alone. (joining both is ours)

Shapes: B slates, K candidates, E events, F features, D width of the texts, W of what is seen of a pair.
"""

import torch
from torch import Tensor, nn

from gr2.advice.past import AGES, EVENTS, UNKNOWN
from gr2.advice.prm import WIDTH, Prm
from gr2.prompt.gaps import BLIND

PAIR, HIDDEN = 32, 64
TEXT_DROPOUT, DROPOUT = 0.2, 0.1


class Din(nn.Module):
    """`positions`: as PRM's. `texts`: the width D."""

    def __init__(self, n_features: int, positions: int, texts: int) -> None:
        super().__init__()
        self.prm = Prm(n_features, positions, blocks=1)
        self.dropout = nn.Dropout(TEXT_DROPOUT)
        self.candidate, self.event = nn.Linear(texts, PAIR), nn.Linear(texts, PAIR)
        self.age, self.place = nn.Embedding(AGES, PAIR), nn.Embedding(EVENTS, PAIR)
        for embedding in (self.age, self.place):
            nn.init.normal_(embedding.weight, std=0.3)
        self.weigh = nn.Linear(4 * PAIR, 1)
        self.value = nn.Sequential(
            nn.Linear(4 * PAIR, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, WIDTH)
        )
        self.by_itself = nn.Linear(texts, WIDTH)

    def forward(
        self,
        x_BKF: Tensor,
        real_BK: Tensor,
        candidates_BKD: Tensor,
        events_BED: Tensor,
        there_BE: Tensor,
        ages_BE: Tensor,
    ) -> Tensor:
        """(B, K) scores; no candidate sees what is padded, nor an event that is not there."""
        candidates_BKD, events_BED = self.dropout(candidates_BKD), self.dropout(events_BED)
        if self.training:  # so that it can be asked without times
            blind_B1 = torch.rand(len(ages_BE), 1) < BLIND
            ages_BE = torch.where(blind_B1, UNKNOWN, ages_BE)
        asking = self.candidate(candidates_BKD)[:, :, None]
        asked = self.event(events_BED)[:, None]
        when = (self.age(ages_BE) + self.place.weight)[:, None].expand(-1, asking.shape[1], -1, -1)
        seen_BKEW = torch.cat([asking * asked, (asking - asked).abs(), asked.expand_as(when), when], dim=-1)
        weights_BKE1 = self.weigh(seen_BKEW).masked_fill(~there_BE[:, None, :, None], -1e9).softmax(2)
        weights_BKE1 = weights_BKE1 * there_BE.any(1)[:, None, None, None]
        drawn_from_the_past = (weights_BKE1 * self.value(seen_BKEW)).sum(2)
        return self.prm.over(self.prm.entered(x_BKF) + drawn_from_the_past + self.by_itself(candidates_BKD), real_BK)
