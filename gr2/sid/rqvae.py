"""RQ-VAE: a small MLP around a residual quantizer, each technique of P1 §2.3 a switch.

Loss: reconstruction + codebook + 0.25 commitment, straight-through (P1 §2.1-2.3; weights: VQ-VAE's, P1 has none).
`vector-quantize-pytorch` finds the codes and keeps the moving averages; techniques that it lacks or has in another
form (k-means++ over all items, diversity, reset to the hardest sample, InfoNCE) stand here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from vector_quantize_pytorch import ResidualVQ

from gr2.errors import UserError
from gr2.progress import track
from gr2.sid.assign import nearest_codes
from gr2.sid.quantize import Quantized, residual_kmeans

COMMITMENT = 0.25
"""gamma; beta, of the codebook loss, is 1 (van den Oord et al. 2017)."""
TEMPERATURE = 0.1
"""Of InfoNCE (ours)."""
INIT_ROWS = 16
"""Items a code on which the codebooks are initialised; one k-means++ start is enough there (ours)."""


class RqVaeConfig(BaseModel):
    """The [sids.rqvae] table; read only with quantizer = "rqvae"."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    latent: int = Field(default=32, ge=1)
    """Size of the codes' vectors. Ours; P1 does not say."""
    hidden: int = Field(default=256, ge=1)
    """Width of the one hidden layer of encoder and decoder. Ours."""
    steps: int = Field(default=2000, ge=1)
    """Optimizer steps (AdamW). Ours."""
    batch_size: int = Field(default=512, ge=1)
    """Items a step. Ours."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Ours."""
    kmeans_init: bool = True
    """P1 technique 1: codebooks start as residual k-means of the untrained encoder's output; false = random numbers."""
    ema_decay: float = Field(default=0.95, ge=0, lt=1)
    """P1 technique 2 (.95 to .99): codes are moving averages of their items; 0 = codes are learned by gradient."""
    diversity_weight: float = Field(default=0.0, ge=0)
    """P1 technique 3: weight of size x sum of squared soft use, summed over levels; 0 = off."""
    reset_dead: bool = True
    """P1 technique 4: a code unused for a pass over the items is put where the worst reconstructed item is."""
    contrastive_weight: float = Field(default=0.0, ge=0)
    """P1 technique 6: weight of InfoNCE between items that one user touched close together; 0 = off."""


class RqVae(nn.Module):
    """Encoder, residual quantizer and decoder; works on standardised vectors."""

    def __init__(self, dims: int, codebook_sizes: Sequence[int], config: RqVaeConfig) -> None:
        super().__init__()
        self.encoder = _mlp(dims, config.hidden, config.latent)
        self.decoder = _mlp(config.latent, config.hidden, dims)
        ema = config.ema_decay > 0
        self.quantizer = ResidualVQ(
            dim=config.latent,
            num_quantizers=len(codebook_sizes),
            codebook_size=tuple(codebook_sizes),
            decay=config.ema_decay,
            ema_update=ema,
            learnable_codebook=not ema,
            commitment_weight=0.0,
            rotation_trick=False,
        )

    def walk(self, z_BP: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Codes (B, L); per level what is left before it and the vector of the code taken, each (B, P)."""
        codes_BL = self.quantizer(z_BP.detach())[1]
        left, lefts, taken = z_BP, [], []
        for level, layer in enumerate(self.quantizer.layers):
            lefts.append(left)
            taken.append(layer.codebook[codes_BL[:, level]])
            left = left - taken[-1].detach()
        return codes_BL, lefts, taken


def rqvae(
    vectors: np.ndarray,
    codebook_sizes: Sequence[int],
    *,
    seed: int,
    config: RqVaeConfig,
    pairs: np.ndarray | None = None,
) -> Quantized:
    """Codes for `vectors` (N, D) float32, general level first; `pairs` (M, 2) rows for the contrastive loss.

    The vectors are centred and scaled as a whole (raw sentence embeddings are known to collapse to one code): dimension
    by dimension, the least principal component would weigh as much as the first.
    Raises UserError when the loss is not finite.
    """
    mean, scale = vectors.mean(axis=0), float(vectors.std()) or 1.0
    x_ND = torch.from_numpy(((vectors - mean) / scale).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RqVae(vectors.shape[1], codebook_sizes, config)
        if config.kmeans_init:
            _initialise(model, x_ND, codebook_sizes, seed)
        _train(model, x_ND, config, seed, pairs)
    weights = {f"encoder.{name}": value.numpy().copy() for name, value in model.encoder.state_dict().items()}
    weights |= {"input_mean": mean.astype(np.float32), "input_scale": np.array([scale], dtype=np.float32)}
    points = encode(vectors, weights)
    books = tuple(layer.codebook.detach().numpy().copy() for layer in model.quantizer.layers)

    @torch.inference_mode()
    def decode(sums: np.ndarray) -> np.ndarray:
        return model.decoder(torch.from_numpy(sums.astype(np.float32))).numpy() * scale + mean

    return Quantized(codes=nearest_codes(points, books), codebooks=books, points=points, decode=decode, weights=weights)


def encode(vectors: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, P) float32: `vectors` (N, D) in the space of the codebooks, by a trained encoder's `Quantized.weights`.

    Rounded, so that float noise does not tell equal items apart.
    """
    x = ((vectors - weights["input_mean"]) / weights["input_scale"]).astype(np.float32)
    hidden = np.maximum(x @ weights["encoder.0.weight"].T + weights["encoder.0.bias"], 0)
    return (hidden @ weights["encoder.2.weight"].T + weights["encoder.2.bias"]).round(5)


def _mlp(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, hidden), nn.ReLU(), nn.Linear(hidden, width_out))


def _train(model: RqVae, x_ND: Tensor, config: RqVaeConfig, seed: int, pairs: np.ndarray | None) -> None:
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    every = max(1, len(x_ND) // config.batch_size)
    used = [torch.zeros(layer.codebook_size, dtype=torch.bool) for layer in model.quantizer.layers]
    for step in track(range(config.steps), "RQ-VAE"):
        x_BD = x_ND[rng.integers(0, len(x_ND), config.batch_size)]
        z_BP = model.encoder(x_BD)
        codes_BL, lefts, taken = model.walk(z_BP)
        # Straight-through: forwards the sum of the codes, backwards as if it were z.
        decoded_BD = model.decoder(z_BP + (sum(taken) - z_BP).detach())
        errors_B = ((decoded_BD - x_BD) ** 2).mean(dim=1)
        loss = errors_B.mean() + _level_losses(model, lefts, taken, config)
        if config.contrastive_weight and pairs is not None and len(pairs):
            left, right = x_ND[pairs[rng.integers(0, len(pairs), config.batch_size)].T]
            loss = loss + config.contrastive_weight * info_nce(model.encoder(left), model.encoder(right))
        if not torch.isfinite(loss):
            raise UserError(f"[sids.rqvae] step {step}: the loss is {loss.item()}; lower learning_rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for level, seen in enumerate(used):
            seen[codes_BL[:, level]] = True
        if config.reset_dead and (step + 1) % every == 0:
            _reset(model, used, lefts, errors_B)
            for seen in used:
                seen.zero_()


def _level_losses(model: RqVae, lefts: list[Tensor], taken: list[Tensor], config: RqVaeConfig) -> Tensor:
    """Codebook, commitment and diversity losses, summed over levels. With moving averages the first moves nothing."""
    total = torch.zeros(())
    for layer, left, code in zip(model.quantizer.layers, lefts, taken, strict=True):
        total = total + F.mse_loss(code, left.detach()) + COMMITMENT * F.mse_loss(left, code.detach())
        if config.diversity_weight:
            total = total + config.diversity_weight * diversity(left, layer.codebook)
    return total


def diversity(left_BP: Tensor, book_KP: Tensor) -> Tensor:
    """K x sum over codes of the squared share of the batch they softly hold: 1 when all are used alike, at most K.

    The softmax is over squared distances in units of the batch's mean distance to the nearest code (ours).
    """
    far_BK = torch.cdist(left_BP, book_KP) ** 2
    unit = far_BK.min(dim=1).values.mean().detach().clamp_min(1e-9)
    share_K = torch.softmax(-far_BK / unit, dim=1).mean(dim=0)
    return len(book_KP) * (share_K**2).sum()


def info_nce(left_BP: Tensor, right_BP: Tensor) -> Tensor:
    """Mean of -log softmax of each row's cosine to its partner, the batch's other partners being the alternatives."""
    logits_BB = F.normalize(left_BP, dim=1) @ F.normalize(right_BP, dim=1).T / TEMPERATURE
    return F.cross_entropy(logits_BB, torch.arange(len(logits_BB)))


@torch.no_grad()
def _initialise(model: RqVae, x_ND: Tensor, codebook_sizes: Sequence[int], seed: int) -> None:
    rows = np.random.default_rng(seed).permutation(len(x_ND))[: INIT_ROWS * max(codebook_sizes)]
    start = residual_kmeans(model.encoder(x_ND[np.sort(rows)]).numpy(), codebook_sizes, seed=seed, starts=1)
    for layer, book in zip(model.quantizer.layers, start.codebooks, strict=True):
        _place(layer, torch.arange(len(book)), torch.from_numpy(book))


@torch.no_grad()
def _reset(model: RqVae, used: list[Tensor], lefts: list[Tensor], errors_B: Tensor) -> None:
    """Put each level's unused codes where the batch's worst reconstructed items lie."""
    hardest = errors_B.argsort(descending=True)
    for layer, seen, left in zip(model.quantizer.layers, used, lefts, strict=True):
        dead = (~seen).nonzero().flatten()[: len(hardest)]
        _place(layer, dead, left[hardest[: len(dead)]])


def _place(layer: Any, codes: Tensor, points: Tensor) -> None:
    """Move codes of a `VectorQuantize` to `points`, the moving averages too: they would pull the codes back."""
    book = layer._codebook
    book.embed.data[0, codes] = points
    book.embed_avg[0, codes] = points
    book.cluster_size[0, codes] = 1.0
