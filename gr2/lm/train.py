"""A training loop that is a pure function of the step, so that a resumed run equals an uninterrupted one (ours).

The batch of step i comes from `batch_of(i)`, and all randomness inside a step from a generator seeded with
(seed, i): nothing but weights, optimizer moments and the step number has to be kept. Every `SAVE_SECONDS` they are
written as safetensors, aside and then renamed.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gr2.errors import UserError
from gr2.progress import bar
from gr2.record import StageFolder, read_json, reading, write_json

SAVE_SECONDS = 30.0
B = TypeVar("B")


class FitConfig(BaseModel):
    """How long and how fast to train."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: int = Field(ge=0)
    """Optimizer steps."""
    batch_size: int = Field(ge=1)
    """Sequences (or slates) a step."""
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    """Peak rate; linear warm-up, then a straight line down to 5 % of it (ours)."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's and Muon's (ours)."""
    warmup_steps: int = Field(default=50, ge=1)
    """Steps of warm-up (ours)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of embeddings and of every branch of a layer that is dropped; for small models on few data (ours)."""


def fit(
    model: nn.Module,
    batch_of: Callable[[int], B],
    loss_of: Callable[[B], Tensor],
    config: FitConfig,
    work: StageFolder,
    *,
    phase: str,
    seed: int,
    evaluate: Callable[[], dict[str, float]] | None = None,
    evaluations: int = 5,
    stop: int | None = None,
) -> None:
    """Train `model` in place; logs `phase`, `step`, `loss` and what `evaluate` says to metrics.jsonl.

    Goes on from the newest checkpoint of this phase in `work.path`, if there is one. `stop`: leave off after so many
    steps, with the rate that they have when all are made. Raises UserError when the
    loss is not finite.
    """
    optimizers = make_optimizers(model, config)
    checkpoint = work.path / f"checkpoint_{phase}"
    start = load_checkpoint(checkpoint, model, optimizers)
    saved = time.monotonic()
    every = max(1, config.steps // evaluations)
    recent: list[float] = []
    last = config.steps if stop is None else stop
    with bar() as progress, dropout(model, config.dropout):
        task = progress.add_task(phase, total=last, completed=start)
        for step in range(start, last):
            torch.manual_seed(seed * 1_000_003 + step)
            model.train()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = config.learning_rate * schedule(step, config)
            device = model_device(model)
            with torch.autocast(device, torch.bfloat16), attention_for(device):
                loss = loss_of(batch_of(step))
            if not math.isfinite(loss.item()):
                raise UserError(f"[{phase}] step {step}: the loss is {loss.item()}; lower learning_rate")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            recent.append(loss.item())
            done = step + 1
            if done % 10 == 0:
                work.metric(phase=phase, step=done, loss=round(sum(recent) / len(recent), 5))
                recent.clear()
            if evaluate and (done % every == 0 or done == last):
                model.eval()
                values = evaluate()
                work.metric(phase=f"{phase}_valid", step=done, **values)
                progress.console.print(f"  {phase} {done}: " + ", ".join(f"{k} {v:.4f}" for k, v in values.items()))
            progress.advance(task)
            if time.monotonic() - saved > SAVE_SECONDS:
                save_checkpoint(checkpoint, model, optimizers, done)
                saved = time.monotonic()
    model.eval()
    shutil.rmtree(checkpoint, ignore_errors=True)


def attention_for(device: str) -> AbstractContextManager[None]:
    """On a CPU the plain attention: the fused one's backward pass takes 40 % of a step at these lengths."""
    return sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()


@contextmanager
def dropout(model: nn.Module, share: float) -> Iterator[None]:
    """Dropout on embeddings, attention outputs and feed-forwards while training: Qwen3 has none of its own."""

    def drop(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        return nn.functional.dropout(output, share, module.training)

    parts = [m for n, m in model.named_modules() if n.endswith(("embed_tokens", "o_proj", ".mlp"))] if share else []
    hooks = [part.register_forward_hook(drop) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def make_optimizers(model: nn.Module, config: FitConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms (docs/log.md has the comparison)."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    others = [p for n, p in named if not (p.ndim == 2 and "embed" not in n and "lm_head" not in n)]
    rate, decay = config.learning_rate, config.weight_decay
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=decay, betas=(0.9, 0.98)),
    ]


def schedule(step: int, config: FitConfig) -> float:
    """Share of the peak rate at this step."""
    return min(1.0, (step + 1) / config.warmup_steps) * (1 - 0.95 * step / config.steps)


def model_device(model: nn.Module) -> str:
    return next(model.parameters()).device.type


def save_checkpoint(folder: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """Weights, moments and step; a crash leaves the last complete checkpoint."""
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file({n: p.detach().contiguous() for n, p in unique_parameters(model).items()}, aside / "model.safetensors")
    moments = {
        f"{o}/{p}/{key}": value.contiguous() if isinstance(value, Tensor) else torch.tensor(value)
        for o, optimizer in enumerate(optimizers)
        for p, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    save_file(moments, aside / "optimizers.safetensors")
    write_json(aside / "step.json", {"step": step})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def load_checkpoint(folder: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    """Restore what `save_checkpoint` wrote; returns the number of steps done, 0 when there is no checkpoint.

    Raises UserError when it is spoilt.
    """
    if not folder.exists():
        return 0
    with reading(folder / "model.safetensors"):
        weights = load_file(folder / "model.safetensors")
    with reading(folder / "optimizers.safetensors"):
        moments = load_file(folder / "optimizers.safetensors")
    with torch.no_grad():
        for name, parameter in unique_parameters(model).items():
            parameter.copy_(weights[name])
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for name, value in moments.items():
        o, p, key = name.split("/")
        states[int(o)].setdefault(int(p), {})[key] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(read_json(folder / "step.json")["step"])


def unique_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Named parameters, tied ones once."""
    return dict(model.named_parameters())
