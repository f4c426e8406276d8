"""How often each item occurs in the training events."""

import numpy as np

from gr2.artifacts import Corpus


def popularity(corpus: Corpus) -> np.ndarray:
    """(N,) int64 training events of each item, in the order of `corpus.items`."""
    rows = [corpus.row[item] for sequence in corpus.train_sequences() for item in sequence]
    return np.bincount(np.array(rows, dtype=np.int64), minlength=len(corpus.items))
