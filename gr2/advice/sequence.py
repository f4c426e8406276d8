"""A SASRec that is told when: what follows a history, and what it would say of anyone. (ours)

It has the pre-ranker's shape and the training events that the pre-ranker of held-out slates had, and is told how long
after the event before it each event comes (`prompt.gaps`). Training slates must not be scored by it: it was trained on
their targets.

Shapes: B slates, K candidates, N items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from gr2.artifacts import Corpus
from gr2.corpus.ties import training_ties
from gr2.lm.batches import chunks
from gr2.prompt.gaps import events_with_gaps, gaps_around
from gr2.retrieve import sasrec
from gr2.retrieve.sasrec import Sasrec, SasrecConfig
from gr2.types import Slate

BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The model and the catalogue that it scores."""

    model: Sasrec
    row: Mapping[str, int]
    """Item id -> row of the catalogue."""

    @cached_property
    def anyone_N(self) -> np.ndarray:
        """(N,) what it says of each item where nothing is known of the person."""
        return sasrec.scores(self.model, [[]])[0]

    def scores(self, slates: Sequence[Slate]) -> list[np.ndarray]:
        """(K, 2) a slate: of each candidate behind the history, and where nothing is known of the person."""
        row, found = self.row, []
        for part in chunks(slates, BATCH):
            gaps = [gaps_around(s.times, len(s.history)) for s in part]
            scores_BN = sasrec.scores(self.model, [[row[i] for i in s.history] for s in part], gaps)
            for slate, scores_N in zip(part, scores_BN, strict=True):
                rows = [row[c] for c in slate.candidates]
                found.append(np.stack([scores_N[rows], self.anyone_N[rows]], axis=1))
        return found

    def tensors(self) -> dict[str, np.ndarray]:
        """Its numbers under names; `of` reads them again."""
        return {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any], row: Mapping[str, int]) -> Self:
        """What `tensors` gave. `config`: the model's, as a table."""
        model = Sasrec(len(row), SasrecConfig(**config), gaps=True)
        model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
        return cls(model=model.eval(), row=row)


def fit_sequences(corpus: Corpus, config: SasrecConfig, seed: int, blind: float = 0.0) -> Sequences:
    """Trained on all training events. `blind`: the share of windows whose gaps are all unknown, for who is to be asked
    without times."""
    events = [events_with_gaps(timeline, corpus.row) for timeline in corpus.timelines]
    rows, gaps = ([[pair[part] for pair in sequence] for sequence in events] for part in (0, 1))
    ties = training_ties(corpus.timelines)
    model = sasrec.train(rows, len(corpus.items), config, seed, gaps=gaps, blind=blind, ties=ties)
    return Sequences(model=model, row=corpus.row)
