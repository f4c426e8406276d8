"""SASRec trained with full softmax cross-entropy: the pre-ranker.

A small causal transformer over item ids with tied item embeddings (Kang & McAuley 2018). Trained with
cross-entropy over the whole catalogue instead of sampled negatives, it beats the generative retrievers
on Beauty (METHOD §6), so its lists are the ones worth re-ranking.

Items are rows of the catalogue here. Shapes: B sequences, T positions, N items, D dimensions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gr2.record import read_json, write_json

Rows = Sequence[int]
IGNORED = -100


class SasrecConfig(BaseModel):
    """Shape and training of SASRec. Epochs were chosen once, by the hit rate on validation events of ML-100K."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dim: int = 64
    """Width D of the embeddings and of the transformer (ours)."""
    layers: int = 2
    """Transformer blocks (Kang & McAuley 2018)."""
    heads: int = 2
    """Attention heads; must divide `dim` (ours)."""
    max_length: int = 50
    """Longest context in events; longer sequences are cut into windows (ours)."""
    dropout: float = 0.1
    """On embeddings and on both branches of a block (ours)."""
    epochs: int = 10
    """Passes over all training events (ours)."""
    batch_size: int = 16
    """Windows a step (ours)."""
    learning_rate: float = 5e-3
    """Peak of AdamW's rate: warm-up over the first tenth of the steps, then a cosine to zero (ours)."""
    weight_decay: float = 0.01
    """AdamW's (ours)."""


class Block(nn.Module):
    """Pre-norm causal self-attention and feed-forward, both residual."""

    def __init__(self, config: SasrecConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm_attention = nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.norm_feed = nn.LayerNorm(config.dim)
        self.feed = nn.Sequential(
            nn.Linear(config.dim, 4 * config.dim), nn.GELU(), nn.Linear(4 * config.dim, config.dim)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        b, t, d = x_BTD.shape
        qkv = self.qkv(self.norm_attention(x_BTD)).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x_BTD = x_BTD + self.dropout(self.out(mixed))
        return x_BTD + self.dropout(self.feed(self.norm_feed(x_BTD)))


class Sasrec(nn.Module):
    """Row N of the embedding is the start of a context, so that an empty history has scores too."""

    def __init__(self, n_items: int, config: SasrecConfig) -> None:
        super().__init__()
        self.n_items, self.config = n_items, config
        self.item = nn.Embedding(n_items + 1, config.dim)
        self.position = nn.Embedding(config.max_length + 1, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=config.dim**-0.5)
        nn.init.normal_(self.position.weight, std=config.dim**-0.5)

    def forward(self, rows_BT: Tensor) -> Tensor:
        """(B, T) rows, start row first and padded on the right -> (B, T, D) states."""
        positions = torch.arange(rows_BT.shape[1])
        x = self.dropout(self.item(rows_BT) + self.position(positions))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., N)."""
        return F.linear(states, self.item.weight[: self.n_items], self.bias)


def train(
    sequences: Sequence[Rows],
    n_items: int,
    config: SasrecConfig,
    seed: int,
    on_epoch: Callable[[int, float, Sasrec], None] | None = None,
) -> Sasrec:
    """Fit on every event of `sequences`, each predicted from at most `max_length` events before it.

    `on_epoch(epoch, mean loss in nats an event, model)` is called after each pass.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = Sasrec(n_items, config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
    )
    for epoch in range(config.epochs):
        model.train()
        total, count = 0.0, 0
        batches = list(_batches(_windows(sequences, config.max_length, rng), n_items, config.batch_size, rng))
        for i, (inputs_BT, targets_BT) in enumerate(batches):
            rate = config.learning_rate * _schedule((epoch + i / len(batches)) / config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            real = targets_BT != IGNORED
            loss = F.cross_entropy(model.logits(model(inputs_BT)[real]), targets_BT[real])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * int(real.sum()), count + int(real.sum())
        if on_epoch:
            on_epoch(epoch, total / count, model)
    return model.eval()


@torch.inference_mode()
def scores(model: Sasrec, histories: Sequence[Rows]) -> np.ndarray:
    """(B, N) float32 logits of the event that follows each history (oldest first; only the last `max_length` count)."""
    model.eval()
    kept = [list(h[-model.config.max_length :]) for h in histories]
    rows_BT = _pad([[model.n_items, *h] for h in kept], fill=model.n_items)
    last = torch.tensor([len(h) for h in kept])
    states = model(rows_BT)[torch.arange(len(kept)), last]
    return model.logits(states).numpy()


def save(model: Sasrec, folder: Path) -> None:
    """Weights as safetensors and the config as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", {"n_items": model.n_items, **model.config.model_dump()})


def load(folder: Path) -> Sasrec:
    """What `save` wrote. Raises UserError when it is not there."""
    raw = read_json(folder / "config.json")
    model = Sasrec(raw.pop("n_items"), SasrecConfig(**raw))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def _schedule(done: float) -> float:
    """Share of the peak rate after a share `done` of the training."""
    return min(1.0, done / 0.1) * 0.5 * (1 + math.cos(math.pi * done)) if done < 1 else 0.0


def _windows(sequences: Sequence[Rows], size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Cut each sequence into windows; the first cut moves with each epoch, so no event is always without context."""
    for rows in sequences:
        first = int(rng.integers(1, size + 1)) if len(rows) > size else size
        for start, stop in zip(
            [0, *range(first, len(rows), size)], [*range(first, len(rows), size), len(rows)], strict=True
        ):
            if stop > start:
                yield rows[start:stop]


def _batches(
    windows: Iterator[Rows], start_row: int, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (B, T) begin with the start row; targets (B, T) are the windows, IGNORED behind their ends."""
    kept = list(windows)
    order = rng.permutation(len(kept))
    for at in range(0, len(kept), batch_size):
        chosen = [kept[i] for i in order[at : at + batch_size]]
        yield _pad([[start_row, *w[:-1]] for w in chosen], start_row), _pad(chosen, IGNORED)


def _pad(rows: Sequence[Rows], fill: int) -> Tensor:
    longest = max(len(r) for r in rows)
    return torch.tensor([[*r, *[fill] * (longest - len(r))] for r in rows], dtype=torch.long)
