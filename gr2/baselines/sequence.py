"""SASRecs as a re-ranker: those that the advice hears, trained once more from other random numbers. (ours)

GR2 has models of sequences beside the pre-ranker: its item head, and SASRecs that are told when (`advice.sequence`).
Whoever wants to know what a language model adds must give the legacy re-rankers such ones too.
"""

import numpy as np

from gr2.advice.sequence import Sequences, fit_sequences
from gr2.artifacts import Corpus
from gr2.retrieve.sasrec import SasrecConfig

OTHER = 1_000
"""Added to the run's seed, so that no run's pre-ranker has these random numbers."""
SEQUENCE, ANYONE = "sasrec", "anyone"
"""Names of its two scores: behind the history, and where nothing is known of the person."""


def rival_sasrecs(corpus: Corpus, config: SasrecConfig, seed: int, vectors_NT: np.ndarray | None) -> Sequences:
    """Trained on all training events, as the pre-ranker of validation and test slates was."""
    return fit_sequences(corpus, config, seed + OTHER, vectors_NT)
