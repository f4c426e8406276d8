"""What a network reads of a person's newest events, beside the features of a slate: their texts, and how long ago they
were. (ours)

Shapes: S slates, K candidates, E events, N items, T width of their text vectors, D of what is kept of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gr2.prompt.gaps import BOUNDS
from gr2.types import Slate

EVENTS = 10
"""Newest events that are read."""
WIDTH = 64
"""Directions of the text vectors that are kept, those in which the catalogue differs most."""
AGES = len(BOUNDS) + 2
"""An event was within the first bound before now, ..., behind the last, or nobody knows."""
UNKNOWN = AGES - 1


def principal(vectors_NT: np.ndarray, width: int = WIDTH) -> Tensor:
    """(N, D) float32 text vectors of a catalogue in its principal directions, `width` at most, with a standard
    deviation of one over all of them."""
    centred_NT = vectors_NT - vectors_NT.mean(0)
    _, _, directions_DT = np.linalg.svd(centred_NT, full_matrices=False)
    texts_ND = centred_NT @ directions_DT[:width].T
    return torch.from_numpy((texts_ND / (texts_ND.std() + 1e-9)).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class Past:
    """Candidates and newest events of slates."""

    texts_ND: Tensor
    candidates_SK: Tensor
    """int64 rows of the catalogue; 0 where padded."""
    events_SE: Tensor
    """int64 rows of the catalogue, newest first; -1 where there is none."""
    ages_SE: Tensor
    """int64, number of the first of BOUNDS that reaches back to the event; UNKNOWN without times."""

    @classmethod
    def of(cls, slates: Sequence[Slate], row: Mapping[str, int], texts_ND: Tensor) -> "Past":
        """Of slates with any number of candidates."""
        k = max((len(s.candidates) for s in slates), default=0)
        candidates_SK = np.zeros((len(slates), k), dtype=np.int64)
        events_SE = np.full((len(slates), EVENTS), -1, dtype=np.int64)
        ages_SE = np.full((len(slates), EVENTS), UNKNOWN, dtype=np.int64)
        for i, slate in enumerate(slates):
            newest = slate.history[: -EVENTS - 1 : -1]
            candidates_SK[i, : len(slate.candidates)] = [row[c] for c in slate.candidates]
            events_SE[i, : len(newest)] = [row[item] for item in newest]
            if slate.times:
                since = slate.time - np.array(slate.history_times[: -EVENTS - 1 : -1])
                ages_SE[i, : len(newest)] = np.searchsorted(BOUNDS, since, side="right")
        return cls(
            texts_ND=texts_ND,
            candidates_SK=torch.from_numpy(candidates_SK),
            events_SE=torch.from_numpy(events_SE),
            ages_SE=torch.from_numpy(ages_SE),
        )

    def at(self, chosen: Tensor) -> "Past":
        """Those slates."""
        return replace(
            self,
            candidates_SK=self.candidates_SK[chosen],
            events_SE=self.events_SE[chosen],
            ages_SE=self.ages_SE[chosen],
        )

    def read(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Texts of the candidates (S, K, D) and of the events (S, E, D), which events are there and how old (S, E)."""
        there_SE = self.events_SE >= 0
        return self.texts_ND[self.candidates_SK], self.texts_ND[self.events_SE.clamp(min=0)], there_SE, self.ages_SE
