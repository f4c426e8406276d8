"""A candidate's features, read by the language model where it is asked about the candidate. (ours)

What counts, texts and times say of a candidate (`advice.features`) a small model cannot know from its weights, and a
prompt that told it in words would be long. So behind the text each candidate is asked about by its id and its label,
what a small network makes of its features is added to the label's embedding, and the hidden state there is read as the
score: the model weighs them by what it has read and thought. Candidates are asked about apart, as their ids are, so
what is written never sees them.

Shapes: B slates, K candidates, F features, D width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gr2.record import reading
from gr2.types import Slate

FILE = "feature_reader.safetensors"
HIDDEN = 64


class FeatureReader(nn.Module):
    """Features -> what is added to a label's embedding, and the state there -> a score. At first nothing is added, and
    all scores are 0."""

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        self.n_features = n_features
        added = nn.Linear(HIDDEN, width)
        nn.init.zeros_(added.weight)
        nn.init.zeros_(added.bias)
        # `embed`: the optimizer takes these matrices for embeddings, as they are no layer's (lm.train).
        self.embed = nn.Sequential(nn.Linear(n_features, HIDDEN), nn.GELU(), added)
        self.weigh = nn.Parameter(torch.zeros(width))
        self.scale = 0.5 * width**0.5  # as vectors of items are where they are read: it has to learn in few steps

    def embedded(self, features_BKF: Tensor) -> Tensor:
        """(B, K, D)."""
        embedded_BKD: Tensor = self.scale * self.embed(features_BKF)
        return embedded_BKD

    def scores(self, hidden_BKD: Tensor) -> Tensor:
        """(B, K) float32."""
        return (hidden_BKD.float() * self.weigh.float()).sum(-1)


def features_of(slates: Sequence[Slate]) -> Tensor:
    """(B, K, F) float32. Raises ValueError where a slate has none; all slates have one K."""
    told = [s.features for s in slates if s.features is not None]
    if len(told) < len(slates):
        raise ValueError("a model that reads features was asked about a slate without: ask the advisor first")
    return torch.from_numpy(np.stack(told)).float()


def attach(model: Any, reader: FeatureReader) -> None:
    """Make the reader part of the language model: whatever trains, copies or moves the one does the other."""
    model.feature_reader = reader.to(model.device)


def attach_new(model: Any, n_features: int, seed: int) -> None:
    """Give the model a reader that has learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        attach(model, FeatureReader(n_features, model.config.hidden_size))


def reader_of(model: Any) -> FeatureReader | None:
    """The language model's reader, where it has one."""
    return getattr(model, "feature_reader", None)


@contextmanager
def apart(model: Any) -> Iterator[FeatureReader | None]:
    """The model without its reader, which is handed out, so that others find the model as they expect it."""
    reader = reader_of(model)
    if reader is not None:
        del model.feature_reader
    try:
        yield reader
    finally:
        if reader is not None:
            attach(model, reader)


def save(reader: FeatureReader, folder: Path) -> None:
    save_file({name: tensor.cpu().contiguous() for name, tensor in reader.state_dict().items()}, folder / FILE)


def load_into(model: Any, folder: Path) -> None:
    """Give the model the reader that `save` wrote, if it wrote one."""
    if not (folder / FILE).exists():
        return
    with reading(folder / FILE):
        weights = load_file(folder / FILE)
        reader = FeatureReader(weights["embed.0.weight"].shape[1], len(weights["weigh"]))
        reader.load_state_dict(weights)
    attach(model, reader)
