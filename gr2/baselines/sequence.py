"""A second SASRec as a re-ranker: the pre-ranker's own kind, trained once more from other random numbers. (ours)

GR2's item head is a second model of sequences beside the pre-ranker, and may be told the gaps between events. Whoever
wants to know what a language model adds must give the legacy re-rankers one too, and tell it the gaps.

Shapes: K candidates, N items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gr2.artifacts import Corpus
from gr2.lm.batches import chunks
from gr2.prompt.gaps import events_with_gaps, gaps_around
from gr2.retrieve import sasrec
from gr2.retrieve.sasrec import Sasrec, SasrecConfig
from gr2.types import Slate

OTHER = 1_000
"""Added to the run's seed, so that no run's pre-ranker has these random numbers."""
BATCH = 128
SEQUENCE, ANYONE = "sasrec", "anyone"
"""Names of its two scores: behind the history, and where nothing is known of the person."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The model and the catalogue that it scores."""

    model: Sasrec
    corpus: Corpus

    @cached_property
    def anyone_N(self) -> np.ndarray:
        """(N,) what it says of each item where nothing is known of the person."""
        return sasrec.scores(self.model, [[]])[0]

    def scores(self, slates: Sequence[Slate]) -> list[np.ndarray]:
        """(K, 2) a slate: of each candidate behind the history, and where nothing is known of the person."""
        row = self.corpus.row
        found = []
        for part in chunks(slates, BATCH):
            gaps = [gaps_around(s.times, len(s.history)) for s in part]
            scores_BN = sasrec.scores(self.model, [[row[i] for i in s.history] for s in part], gaps)
            for slate, scores_N in zip(part, scores_BN, strict=True):
                rows = [row[c] for c in slate.candidates]
                found.append(np.stack([scores_N[rows], self.anyone_N[rows]], axis=1))
        return found


def second_sasrec(corpus: Corpus, config: SasrecConfig, seed: int) -> Sequences:
    """Trained on all training events, as the pre-ranker of validation and test slates was, and told the gaps."""
    events = [e for timeline in corpus.timelines if (e := events_with_gaps(timeline, corpus.row))]
    rows, gaps = ([[pair[part] for pair in sequence] for sequence in events] for part in (0, 1))
    model = sasrec.train(rows, len(corpus.items), config, seed + OTHER, gaps=gaps)
    return Sequences(model=model, corpus=corpus)
