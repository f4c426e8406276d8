"""Padding and batching of token lists."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def chunks(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive pieces of at most `size`."""
    for at in range(0, len(things), size):
        yield things[at : at + size]


def pad_left(rows: Sequence[Sequence[float]], pad: float, dtype: torch.dtype = torch.long) -> tuple[Tensor, Tensor]:
    """(B, T) values and their 0/1 mask, flush right: prompts to go on from."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows], dtype=dtype)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def pad_right(rows: Sequence[Sequence[float]], pad: float, dtype: torch.dtype = torch.long) -> Tensor:
    """(B, T), flush left: sequences to train on."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=dtype)


def epoch_picks(n: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Rows of this step out of `n`: a pure function of seed and step, and every row once before any comes again."""
    epochs: dict[int, np.ndarray] = {}
    picks = []
    for at in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(at, n)
        if epoch not in epochs:
            epochs[epoch] = np.random.default_rng((seed, epoch)).permutation(n)
        picks.append(int(epochs[epoch][place]))
    return picks
