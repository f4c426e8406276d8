"""SASRec trained with full softmax cross-entropy: the pre-ranker.

A small causal transformer over item ids with tied item embeddings (Kang & McAuley 2018). Trained with
cross-entropy over the whole catalogue instead of sampled negatives, it beats the generative retrievers
on Beauty (method §6), so its lists are the ones worth re-ranking.

Item embeddings start small (standard deviation .02) and are scaled up where they are read, not where they are
predicted: so the scores of all items start equal, and an item that is seldom seen is not judged by the noise it began
with. On Beauty this is worth more than all else (docs/04-slates.md).

In training several short windows lie behind one another in one line of a batch, each blind to the others, so hardly
any of it is padding and every batch has one shape.

A model may be told how long after the event before it each event comes that it is to predict (`prompt.gaps`; ours): a
vector of that gap is added where it predicts. The pre-ranker is not; those of `advice.sequence` are.

Events of one time are read in another order at each pass, where their order says nothing (`corpus.ties`; ours): on
Beauty, 44 % of whose events share their day with the one before, that is .22 nats a validation event (docs/ties.md).

Items are rows of the catalogue here. Shapes: B lines, T positions, N items, D dimensions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gr2.corpus.ties import redrawn
from gr2.prompt.gaps import GAPS, UNKNOWN, Window
from gr2.record import read_json, reading, write_json
from gr2.retrieve.cross_entropy import catalogue_cross_entropy

Rows = Sequence[int]
IGNORED = -100
PRE_RANKER = "sasrec"
"""Its folder in that of s04_slates."""
INIT = 0.02
"""Standard deviation of the item embeddings at the start."""
CONTEXT = 0.9
"""Share of the longest window that a history may fill: few windows are cut so long that their last positions learn
much, and the one behind them learns nothing. On ML-100K's long histories that is .05 nats (docs/04-slates.md)."""


class SasrecConfig(BaseModel):
    """Shape and training of SASRec. Epochs were chosen once, by the hit rate on validation events of ML-100K."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    dim: int = Field(default=64, ge=1)
    """Width D of the embeddings and of the transformer (ours)."""
    layers: int = Field(default=2, ge=1)
    """Transformer blocks (Kang & McAuley 2018)."""
    heads: int = Field(default=2, ge=1)
    """Attention heads; must divide `dim` (ours)."""
    max_length: int = Field(default=50, ge=2)
    """Longest window in events; longer sequences are cut into several (ours)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On embeddings and on both branches of a block (ours)."""
    epochs: int = Field(default=10, ge=1)
    """Passes over all training events (ours)."""
    batch_size: int = Field(default=12, ge=1)
    """Lines of `max_length` events a step; a line holds one window or several short ones (ours)."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Peak of AdamW's rate: warm-up over the first tenth of the steps, then a cosine to zero (ours)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's (ours)."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads = {self.heads} must divide dim = {self.dim}")
        return self


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Lines of windows, each (B, T) int64 but for the mask."""

    inputs: Tensor
    """The start row, then each window without its last item."""
    targets: Tensor
    """The windows; IGNORED behind the last one of a line."""
    gaps: Tensor
    """Before each target; UNKNOWN before the first of a window, and behind the last."""
    positions: Tensor
    """Counted from the start of the own window."""
    mask: Tensor
    """(B, 1, T, T) bool: what a position sees, earlier ones of its own window and itself."""


class Dropout(nn.Module):
    """What nn.Dropout does; on a CPU its Bernoulli draws take twice as long as these."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(x.shape) >= self.share).div(1 - self.share) if self.training else x


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
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, only_B: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D), or (B, D) at one position `only_B` of each line."""
        b, t, d = x_BTD.shape
        qkv = self.qkv(self.norm_attention(x_BTD)).float().view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # The backward pass of this kernel is several times slower in bfloat16 than in float32 on a CPU.
        with torch.autocast("cpu", enabled=False):
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        mixed = mixed.transpose(1, 2).reshape(b, t, d)
        x = x_BTD
        if only_B is not None:
            x, mixed = x[torch.arange(b), only_B], mixed[torch.arange(b), only_B]
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.feed(self.norm_feed(x)))


class Sasrec(nn.Module):
    """Row N of the embedding is the start of a context, so that an empty history has scores too."""

    def __init__(self, n_items: int, config: SasrecConfig, gaps: bool = False) -> None:
        super().__init__()
        self.n_items, self.config = n_items, config
        self.scale = config.dim**0.5
        self.item = nn.Embedding(n_items + 1, config.dim)
        self.position = nn.Embedding(config.max_length + 1, config.dim)  # the last is never read; saved models have it
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        nn.init.normal_(self.item.weight, std=INIT)
        nn.init.normal_(self.position.weight, std=INIT * self.scale)
        self.gap: nn.Embedding | None = None
        if gaps:
            self.gap = nn.Embedding(len(GAPS), config.dim)
            nn.init.normal_(self.gap.weight, std=INIT * self.scale)

    def read(self, inputs: Tensor, positions: Tensor, gaps: Tensor) -> Tensor:
        """(B, T) each -> (B, T, D) what the first block reads."""
        x = self.scale * self.item(inputs) + self.position(positions)
        return x if self.gap is None else x + self.gap(gaps)

    def forward(self, batch: Batch) -> Tensor:
        """(B, T, D) states."""
        x = self.dropout(self.read(batch.inputs, batch.positions, batch.gaps))
        for block in self.blocks:
            x = block(x, batch.mask)
        return self.norm(x)

    def last(self, rows_BT: Tensor, gaps_BT: Tensor, last_B: Tensor) -> Tensor:
        """(B, D) states at position `last_B` of lines of one window each, start row first and padded on the right."""
        x = self.read(rows_BT, torch.arange(rows_BT.shape[1]), gaps_BT)
        *blocks, final = self.blocks
        for block in blocks:
            x = block(x, None)
        return self.norm(final(x, None, last_B))

    def logits(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., N)."""
        return F.linear(states, self.item.weight[: self.n_items])


def train(
    sequences: Sequence[Rows],
    n_items: int,
    config: SasrecConfig,
    seed: int,
    on_epoch: Callable[[int, float, Sasrec], None] | None = None,
    gaps: Sequence[Rows] | None = None,
    blind: float = 0.0,
    ties: Sequence[Sequence[slice]] | None = None,
    start_ND: Tensor | None = None,
) -> Sasrec:
    """Fit on every event of `sequences`, each predicted from fewer than `max_length` events before it.

    `on_epoch(epoch, mean loss in nats an event, model)` is called after each pass. `gaps`: the number of the gap before
    each event, for a model that is told them; `blind`: the share of windows in which it is told none. `ties`: events
    that are read in another order at each pass (`corpus.ties`). `start_ND`: what the item embeddings start as; where it
    is narrower than they are, the rest is random.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = Sasrec(n_items, config, gaps=gaps is not None)
    if start_ND is not None:
        model.item.weight.data[:n_items, : start_ND.shape[1]] = start_ND
    known = gaps or [[UNKNOWN] * len(rows) for rows in sequences]
    free = ties or [[] for _ in sequences]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
    )
    for epoch in range(config.epochs):
        model.train()
        total, count = 0.0, 0
        read = [redrawn(rows, tied, rng) for rows, tied in zip(sequences, free, strict=True)]
        told = [list(zip(rows, numbers, strict=True)) for rows, numbers in zip(read, known, strict=True)]
        windows = list(_windows(told, config.max_length, rng))
        if blind:
            windows = [[(row, UNKNOWN) for row, _ in w] if rng.random() < blind else w for w in windows]
        batches = _batches(windows, n_items, config, rng)
        for i, batch in enumerate(batches):
            rate = config.learning_rate * _schedule((epoch + i / len(batches)) / config.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss, events = _loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item() * events, count + events
        if on_epoch:
            on_epoch(epoch, total / count, model)
    return model.eval()


@torch.inference_mode()
def scores(model: Sasrec, histories: Sequence[Rows], gaps: Sequence[Rows] | None = None) -> np.ndarray:
    """(B, N) float32 logits of the event that follows each history (oldest first; only the newest count, a share
    CONTEXT of `max_length`). `gaps`: the numbers of those before each of its events and before the one to come; left
    out, none is known."""
    model.eval()
    size = int(CONTEXT * model.config.max_length)
    kept = [list(h[-size:]) for h in histories]
    known = gaps or [[UNKNOWN] * (len(h) + 1) for h in kept]
    rows_BT = _pad([[model.n_items, *h] for h in kept], fill=model.n_items)
    gaps_BT = _pad([[UNKNOWN, *numbers[1:][-size:]] for numbers in known], fill=UNKNOWN)
    last = torch.tensor([len(h) for h in kept])
    return model.logits(model.last(rows_BT, gaps_BT, last)).numpy()


def save(model: Sasrec, folder: Path) -> None:
    """Weights as safetensors and the config as JSON, of a model that is told no gaps."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    write_json(folder / "config.json", {"n_items": model.n_items, **model.config.model_dump()})


def load_config(folder: Path) -> SasrecConfig:
    """Of a model that `save` wrote. Raises UserError when it is absent or spoilt."""
    return SasrecConfig(
        **{name: value for name, value in read_json(folder / "config.json").items() if name != "n_items"}
    )


def pre_ranker_config(slates: Path) -> SasrecConfig:
    """Of the pre-ranker in the folder of s04_slates; the default where slates were logged."""
    return load_config(slates / PRE_RANKER) if (slates / PRE_RANKER).exists() else SasrecConfig()


def load(folder: Path) -> Sasrec:
    """What `save` wrote. Raises UserError when it is absent or spoilt."""
    model = Sasrec(read_json(folder / "config.json")["n_items"], load_config(folder))
    with reading(folder / "model.safetensors"):
        model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def _loss(model: Sasrec, batch: Batch) -> tuple[Tensor, int]:
    """Mean nats an event, and the number of events."""
    kind = torch.bfloat16 if _has_bfloat16() else torch.float32
    with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
        states = model(batch)
    real = batch.targets != IGNORED
    items = model.item.weight[: model.n_items]
    loss = catalogue_cross_entropy(states[real].to(kind), items.to(kind), batch.targets[real])
    return loss, int(real.sum())


def _schedule(done: float) -> float:
    """Share of the peak rate after a share `done` of the training."""
    return min(1.0, done / 0.1) * 0.5 * (1 + math.cos(math.pi * done)) if done < 1 else 0.0


def _windows(sequences: Sequence[Window], size: int, rng: np.random.Generator) -> Iterator[Window]:
    """Cut each sequence into windows; the first cut moves with each epoch, so no event is always without context."""
    for events in sequences:
        first = int(rng.integers(1, size + 1)) if len(events) > size else size
        for start, stop in zip(
            [0, *range(first, len(events), size)], [*range(first, len(events), size), len(events)], strict=True
        ):
            if stop > start:
                yield events[start:stop]


def _lines(windows: Sequence[Window], size: int) -> list[list[Window]]:
    """Lay windows of at most `size` events into few lines of `size`: the longest first, each where it fits best."""
    with_room: list[list[list[Window]]] = [[] for _ in range(size + 1)]
    lines = []
    for window in sorted(windows, key=len, reverse=True):
        room = next((r for r in range(len(window), size + 1) if with_room[r]), None)
        if room is None:
            room = size
            with_room[room].append([])
            lines.append(with_room[room][-1])
        line = with_room[room].pop()
        line.append(window)
        with_room[room - len(window)].append(line)
    return lines


def _batches(windows: Sequence[Window], start_row: int, config: SasrecConfig, rng: np.random.Generator) -> list[Batch]:
    """One epoch in random order; which windows share a line is random but for their lengths."""
    shuffled = [windows[i] for i in rng.permutation(len(windows))]
    lines = _lines(shuffled, config.max_length)
    table_B5T = torch.tensor([_columns(lines[i], start_row, config.max_length) for i in rng.permutation(len(lines))])
    return [_batch(part) for part in table_B5T.split(config.batch_size)]


def _columns(line: Sequence[Window], start_row: int, size: int) -> list[list[int]]:
    """Inputs, targets, gaps, positions and number of the window (-1 behind the last), each `size` long."""
    rest = size - sum(map(len, line))
    return [
        [row for window in line for row in (start_row, *(row for row, _ in window[:-1]))] + rest * [start_row],
        [row for window in line for row, _ in window] + rest * [IGNORED],
        [gap for window in line for gap in (UNKNOWN, *(gap for _, gap in window[1:]))] + rest * [UNKNOWN],
        [position for window in line for position in range(len(window))] + rest * [0],
        [number for number, window in enumerate(line) for _ in window] + rest * [-1],
    ]


def _batch(table_B5T: Tensor) -> Batch:
    inputs, targets, gaps, positions, number = table_B5T.unbind(1)
    own = number[:, :, None] == number[:, None, :]
    return Batch(inputs=inputs, targets=targets, gaps=gaps, positions=positions, mask=own.tril()[:, None])


def _pad(rows: Sequence[Rows], fill: int) -> Tensor:
    longest = max(len(r) for r in rows)
    return torch.tensor([[*r, *[fill] * (longest - len(r))] for r in rows], dtype=torch.long)


@cache
def _has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; emulated, it would cost more than it saves."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
