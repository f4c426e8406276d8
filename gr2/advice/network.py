"""Networks over the features: how these are scaled, the loss, and the training loop with early stopping. (ours)

Two give advice (`advisor`), and the same two, tuned, are legacy re-rankers (`baselines.prm`, `baselines.dcn`); two more
learn from practice slates too (`practised`).

Shapes: B slates, K candidates, F features.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from gr2.advice.past import Past
from gr2.advice.sample import Sample

CHUNK = 1024
"""Slates scaled or asked about at once."""
MAX_ROUNDS, PATIENCE = 16, 5
"""With four passes at most, nearly every grid point wanted all four, and more made both better (docs/log.md)."""
Build = Callable[[int, int], nn.Module]
"""What builds a module, from the number of features and the longest slate."""
BATCH, STEPS = 256, 48
"""A round is one pass over the slates, BATCH a step; fewer a step where it would have fewer than STEPS steps."""


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """A sample as tensors, its features scaled."""

    x: Tensor
    """(S, K, F)"""
    gains: Tensor
    """(S, K) float32"""
    real: Tensor
    """(S, K) bool"""
    weights: Tensor
    """(S,) float32, what each slate counts"""
    past: Past | None
    """What is read beside the features, by a module that reads histories."""

    def asked(self, part: Tensor) -> tuple[Tensor, ...]:
        """What a module is given of these slates."""
        return self.x[part], self.real[part], *(self.past.at(part).read() if self.past else ())


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Feature by feature: standardised over the training candidates, then sign(z) log(1 + |z|) against long tails, as
    neural rankers need it (Qin et al. 2021). What is unknown becomes the mean."""

    mean_F: np.ndarray
    deviation_F: np.ndarray

    @classmethod
    def of(cls, sample: Sample) -> "Scale":
        rows_MF = sample.x_SKF[sample.real_SK].astype(np.float64)
        known_F = (~np.isnan(rows_MF)).sum(0).clip(1)
        mean_F = np.nansum(rows_MF, axis=0) / known_F
        variance_F = np.nansum((rows_MF - mean_F) ** 2, axis=0) / known_F
        return cls(mean_F=mean_F, deviation_F=np.sqrt(variance_F) + 1e-6)

    def tensors(self) -> dict[str, np.ndarray]:
        """Its numbers under names; `taken_from` reads them again."""
        return {"mean": self.mean_F, "deviation": self.deviation_F}

    @classmethod
    def taken_from(cls, tensors: dict[str, np.ndarray]) -> "Scale":
        """What `tensors` gave, which is taken out."""
        return cls(mean_F=tensors.pop("mean"), deviation_F=tensors.pop("deviation"))

    def arrays(self, sample: Sample) -> Arrays:
        x_SKF = np.empty(sample.x_SKF.shape, np.float32)
        for at in range(0, len(x_SKF), CHUNK):  # in float64, of which there is not room for all at once
            part = slice(at, at + CHUNK)
            z_SKF = np.nan_to_num((sample.x_SKF[part] - self.mean_F) / self.deviation_F)
            x_SKF[part] = np.sign(z_SKF) * np.log1p(np.abs(z_SKF)) * sample.real_SK[part, :, None]
        return Arrays(
            x=torch.from_numpy(x_SKF),
            gains=torch.from_numpy(sample.gains_SK.astype(np.float32)),
            real=torch.from_numpy(sample.real_SK),
            weights=torch.from_numpy(sample.weights_S.astype(np.float32)),
            past=sample.past,
        )


def list_loss(scores_BK: Tensor, gains_BK: Tensor, real_BK: Tensor, weights_B: Tensor) -> Tensor:
    """Softmax cross-entropy over the slate against shares by 2^gain - 1; weighted sum over the slates with a positive,
    by their number."""
    worth = 2**gains_BK - 1
    shares = worth / worth.sum(1, keepdim=True).clamp(min=1)
    log_softmax = scores_BK.masked_fill(~real_BK, -1e9).log_softmax(1)
    return -(weights_B[:, None] * shares * log_softmax).sum() / (worth.sum(1) > 0).sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A fitted network and how its features are scaled."""

    module: nn.Module
    """Maps x (B, K, F) and real (B, K), and what it reads of the past, to (B, K) scores."""
    scale: Scale
    rounds: int
    """Passes over the training slates that made it."""

    def scores(self, sample: Sample) -> np.ndarray:
        """(S, K) float32, higher is better; anything where padded."""
        return _scores(self.module, self.scale.arrays(sample))


def network_tensors(network: Network) -> dict[str, np.ndarray]:
    """Its numbers under names; `network_of` reads them again."""
    module = {key: tensor.numpy() for key, tensor in network.module.state_dict().items()}
    return module | network.scale.tensors()


def network_of(own: dict[str, np.ndarray], build: Build, rounds: int, positions: int) -> Network:
    """What `network_tensors` gave, of a network of this kind."""
    scale = Scale.taken_from(own)
    module = build(len(scale.mean_F), positions)
    module.load_state_dict({key: torch.from_numpy(array) for key, array in own.items()})
    return Network(module=module, scale=scale, rounds=rounds)


def under(name: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose names begin so, by the rest of their names."""
    return {key.removeprefix(f"{name}/"): array for key, array in tensors.items() if key.startswith(f"{name}/")}


def fit_network(build: Build, train: Sample, rate: float, seed: int, stop: Sample | int) -> Network:
    """Train `build(F, K)`, a module as `Network` has it, by AdamW, its rate falling in MAX_ROUNDS from `rate`
    to zero: `stop` rounds, or until the loss of the slates in `stop` has not fallen for PATIENCE rounds; then the best
    round's weights stay. The loss is less noisy than a metric of ranks, which stopped sooner than was best."""
    scale = Scale.of(train)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build(train.x_SKF.shape[2], train.x_SKF.shape[1])
        rounds = _rounds(module, scale.arrays(train), rate, seed)
        n = len(list(islice(rounds, stop))) if isinstance(stop, int) else _best(rounds, module, scale.arrays(stop))
    return Network(module=module, scale=scale, rounds=n)


def _best(rounds: Iterator[int], module: nn.Module, held_out: Arrays) -> int:
    """Stop early; gives the best round."""
    best, best_round, weights = math.inf, 0, module.state_dict()
    for number in rounds:
        scores = torch.from_numpy(_scores(module, held_out))
        value = list_loss(scores, held_out.gains, held_out.real, held_out.weights).item()
        if value < best:
            best, best_round, weights = value, number, deepcopy(module.state_dict())
        elif number - best_round >= PATIENCE:
            break
    module.load_state_dict(weights)
    return best_round


def _rounds(module: nn.Module, arrays: Arrays, rate: float, seed: int) -> Iterator[int]:
    """1 to MAX_ROUNDS, each after a pass in a new random order."""
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.01, fused=True)
    batch = min(BATCH, 1 + len(arrays.x) // STEPS)
    steps = MAX_ROUNDS * -(-len(arrays.x) // batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, steps - 1)
    for number in range(1, MAX_ROUNDS + 1):
        module.train()
        for part in torch.from_numpy(rng.permutation(len(arrays.x))).split(batch):
            real = arrays.real[part]
            loss = list_loss(module(*arrays.asked(part)), arrays.gains[part], real, arrays.weights[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        yield number


@torch.inference_mode()
def _scores(module: nn.Module, arrays: Arrays) -> np.ndarray:
    module.eval()
    parts = torch.arange(len(arrays.x)).split(CHUNK)
    return torch.cat([module(*arrays.asked(part)) for part in parts]).numpy()
