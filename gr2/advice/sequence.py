"""SASRecs that are told when: what follows a history, and what they would say of anyone. (ours)

Each has the pre-ranker's shape and the training events that the pre-ranker of held-out slates had, and is told how long
after the event before it each event comes (`prompt.gaps`). Its item embeddings start as what the catalogue's texts
differ in most, and it learns with less dropout and for longer than is best on the whole catalogue: it goes on to tell
better which item of a slate is taken (docs/log.md). Luck with random numbers is much of what a single one is worth, so
two speak, as their mean. Training slates must not be scored by them: they were trained on their targets.

Shapes: B slates, K candidates, N items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from gr2.advice.network import under
from gr2.advice.past import principal
from gr2.artifacts import Corpus
from gr2.corpus.ties import training_ties
from gr2.lm.batches import chunks
from gr2.progress import track
from gr2.prompt.gaps import UNKNOWN, events_with_gaps, gaps_around
from gr2.retrieve import sasrec
from gr2.retrieve.sasrec import INIT, Rows, Sasrec, SasrecConfig
from gr2.types import Slate

BATCH = 128
SEEDS, APART = 2, 10_000
"""SASRecs; they differ by their random numbers, and so far apart that no other run has them."""
EPOCHS, DROPOUT = 20, 0.2
"""In place of the pre-ranker's; as on validation slates of Toys and MovieLens-100K (docs/log.md)."""
START = 2 * INIT
"""Standard deviation of the embeddings that start as texts."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The models, of one shape, and the catalogue that they score."""

    models: tuple[Sasrec, ...]
    row: Mapping[str, int]
    """Item id -> row of the catalogue."""

    @cached_property
    def anyone_N(self) -> np.ndarray:
        """(N,) what they say of each item where nothing is known of the person."""
        anyone_N: np.ndarray = self._mean([[]], [[UNKNOWN]])[0]
        return anyone_N

    def scores(self, slates: Sequence[Slate]) -> list[np.ndarray]:
        """(K, 2) a slate: of each candidate behind the history, and where nothing is known of the person."""
        row, found = self.row, []
        for part in chunks(slates, BATCH):
            gaps = [gaps_around(s.times, len(s.history)) for s in part]
            scores_BN = self._mean([[row[i] for i in s.history] for s in part], gaps)
            for slate, scores_N in zip(part, scores_BN, strict=True):
                rows = [row[c] for c in slate.candidates]
                found.append(np.stack([scores_N[rows], self.anyone_N[rows]], axis=1))
        return found

    def _mean(self, histories: Sequence[Rows], gaps: Sequence[Rows]) -> np.ndarray:
        """(B, N) logits."""
        return np.mean([sasrec.scores(model, histories, gaps) for model in self.models], axis=0)

    def tensors(self) -> dict[str, np.ndarray]:
        """Their numbers under names; `of` reads them again."""
        return {
            f"{number}/{name}": tensor.numpy()
            for number, model in enumerate(self.models)
            for name, tensor in model.state_dict().items()
        }

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any], row: Mapping[str, int]) -> Self:
        """What `tensors` gave. `config`: the models', as a table."""
        models = []
        for number in sorted({name.partition("/")[0] for name in tensors}, key=int):
            model = Sasrec(len(row), SasrecConfig(**config), gaps=True)
            model.load_state_dict({name: torch.from_numpy(array) for name, array in under(number, tensors).items()})
            models.append(model.eval())
        return cls(models=tuple(models), row=row)


def fit_sequences(
    corpus: Corpus, config: SasrecConfig, seed: int, vectors_NT: np.ndarray | None, blind: float = 0.0
) -> Sequences:
    """Trained on all training events. `config`: the pre-ranker's. `vectors_NT`: text vectors of the catalogue; where
    there are none, the embeddings start at random. `blind`: the share of windows whose gaps are all unknown, for who is
    to be asked without times."""
    events = [events_with_gaps(timeline, corpus.row) for timeline in corpus.timelines]
    rows, gaps = ([[pair[part] for pair in sequence] for sequence in events] for part in (0, 1))
    ties = training_ties(corpus.timelines)
    shape = config.model_copy(update={"epochs": EPOCHS, "dropout": DROPOUT})
    start_ND = None if vectors_NT is None else START * principal(vectors_NT, config.dim)
    models = tuple(
        sasrec.train(
            rows, len(corpus.items), shape, seed + APART * number, gaps=gaps, blind=blind, ties=ties, start_ND=start_ND
        )
        for number in track(range(SEEDS), "SASRecs that are told when")
    )
    return Sequences(models=models, row=corpus.row)
