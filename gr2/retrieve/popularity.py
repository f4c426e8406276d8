"""How often each item occurs in the training events."""

import numpy as np

from gr2.artifacts import Corpus


def popularity(corpus: Corpus) -> np.ndarray:
    """(N,) int64 training events of each item, in the order of `corpus.items`."""
    rows = [corpus.row[item] for sequence in corpus.train_sequences() for item in sequence]
    return np.bincount(np.array(rows, dtype=np.int64), minlength=len(corpus.items))


def most_popular(corpus: Corpus, n: int) -> tuple[str, ...]:
    """Ids of the `n` items with most training events, most first; equals in the catalogue's order."""
    counts = popularity(corpus)
    return tuple(corpus.items[i].item_id for i in sorted(range(len(counts)), key=lambda i: (-counts[i], i))[:n])
