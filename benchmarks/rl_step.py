"""One RL step of ours against stock TRL: same model, prompts and group size, same rollouts for the loss, same process.

`python -m benchmarks.rl_step runs/nano --repeats 5` writes benchmarks/results/rl_step_nano.json. Seconds are CPU
seconds of one thread, medians of the repeats, which alternate between the two. The rollouts of the losses are a little
off policy, since on policy every ratio is 1 and a loss says nothing of the log-probabilities; losses or gradients that
are further apart than 1e-4 end the benchmark. A whole step is from the end of one to the end of the next, so that what
is done once a run (setting up, the last checkpoint) is no part of it. Times are medians of the repeats' ratios, with
the least and the largest beside them.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import typer
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback
from trl import GRPOTrainer

from benchmarks.common import origin
from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.lm.batches import pad_left, pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.memory import keep_freed_memory
from gr2.record import write_json
from gr2.rl.dapo import DapoTrainer
from gr2.rl.draft import answer_draft
from gr2.rl.sample import sample
from gr2.rl.shared_prefix import completion_log_probs
from gr2.stages.s08_rl import Config, trl_config
from gr2.types import Split

RESULTS = Path("benchmarks/results")
FURTHEST_APART, OFF_POLICY = 1e-4, 0.2
LONGEST, PROMPTS, GROUP, STEPS = 60, 8, 8, 5
Rollouts = dict[str, Any]


def trainer(kind: Any, checkpoint: Checkpoint, prompts: list[str], folder: str, steps: int) -> Any:
    """A trainer of its own copy of the model. The reward is what costs nothing: the share of even tokens."""
    config = Config(steps=steps, prompts=PROMPTS, rollouts=GROUP, max_rounds=1, save_steps=10_000)
    one = kind(
        model=deepcopy(checkpoint.model),
        processing_class=checkpoint.tokenizer,
        reward_funcs=[lambda completion_ids, **_: [sum(t % 2 for t in c) / len(c) for c in completion_ids]],
        train_dataset=Dataset.from_list([{"prompt": p} for p in prompts]),
        args=trl_config(config, 0, LONGEST, Path(folder)),
    )
    one.max_rounds, one.draft = 1, answer_draft(checkpoint.tokenizer)
    return one


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    done = work()
    return time.process_time() - start, done


class StepEnds(TrainerCallback):
    """CPU seconds at the end of each step."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.at.append(time.process_time())


def seconds_a_step(one: Any) -> float:
    """Mean over the steps after the first."""
    ends = StepEnds()
    one.add_callback(ends)
    one.train()
    return (ends.at[-1] - ends.at[0]) / (len(ends.at) - 1)


def batch_of(prompts: list[list[int]], completions: list[list[int]], pad: int) -> Rollouts:
    """What both losses are asked about."""
    ids, seen = pad_left([p for p in prompts for _ in range(GROUP)], pad)
    mask = pad_right([[1] * len(c) for c in completions], 0)
    return {
        "prompt_ids": ids,
        "prompt_mask": seen,
        "completion_ids": pad_right(completions, pad),
        "completion_mask": mask,
        "advantages": torch.randn(len(completions), generator=torch.Generator().manual_seed(0)),
        "num_items_in_batch": mask.sum(),
    }


def off_policy(stock: Any, batch: Rollouts) -> Tensor:
    """(B, C) log-probabilities under which the rollouts may have been written: the model's with some noise, so that
    ratios are off 1 and some are clipped."""
    ids, mask = (torch.cat([batch[f"prompt_{kind}"], batch[f"completion_{kind}"]], dim=1) for kind in ("ids", "mask"))
    with torch.no_grad():
        logps, *_ = stock._get_per_token_logps_and_entropies(stock.model, ids, mask, batch["completion_ids"].shape[1])
    return logps + OFF_POLICY * torch.randn(logps.shape, generator=torch.Generator().manual_seed(1))


def loss_and_gradient(one: Any, batch: Rollouts) -> tuple[float, Tensor]:
    one.current_gradient_accumulation_steps = 1
    one.model.train()
    one.model.zero_grad()
    loss = one._compute_loss(one.model, batch)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in one.model.parameters() if p.grad is not None])


def unshared_backward(model: Any, batch: Rollouts, pad: int) -> None:
    """Our log-probabilities with every rollout's prompt read for itself."""
    model.zero_grad()
    own = torch.arange(len(batch["prompt_ids"]))
    logps, _ = completion_log_probs(
        model, batch["prompt_ids"], own, batch["completion_ids"], batch["completion_mask"], pad=pad, temperature=1.0
    )
    logps.sum().backward()


def compare(checkpoint: Checkpoint, texts: list[str], repeats: int) -> dict[str, Any]:
    """Seconds of each part, by side, and how far loss and gradient are apart."""
    tokenizer: Any = checkpoint.tokenizer
    pad, stops = tokenizer.pad_token_id, [tokenizer.eos_token_id]
    prompts = tokenizer(texts[:PROMPTS], add_special_tokens=False)["input_ids"]
    each = [p for p in prompts for _ in range(GROUP)]
    found: dict[str, list[float]] = {}
    apart: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        stock, ours = (trainer(kind, checkpoint, texts, folder, STEPS) for kind in (GRPOTrainer, DapoTrainer))
        keys = {"longest": LONGEST, "temperature": 1.0, "stops": stops, "pad": pad}
        for _ in range(repeats):
            timed = {
                "rollouts, stock": lambda: stock._generate_single_turn(each, None, {}, GROUP),
                "rollouts, ours, prompts not shared": lambda: sample(ours.model, each, 1, **keys),
                "rollouts, ours": lambda: ours._generate_single_turn(each, None, {}, GROUP),
            }
            for name, work in timed.items():
                spent, completions = seconds(work)
                found.setdefault(name, []).append(spent)
            batch = batch_of(prompts, completions[0], pad)
            batch["old_per_token_logps"] = off_policy(stock, batch)
            spent, (loss, gradient) = seconds(lambda b=batch: loss_and_gradient(stock, b))
            found.setdefault("loss and gradient, stock", []).append(spent)
            spent, _ = seconds(lambda b=batch: unshared_backward(ours.model, b, pad))
            found.setdefault("loss and gradient, ours, prompts not shared", []).append(spent)
            spent, (own_loss, own_gradient) = seconds(lambda b=batch: loss_and_gradient(ours, b))
            found.setdefault("loss and gradient, ours", []).append(spent)
            apart.append((abs(loss - own_loss), (gradient - own_gradient).abs().max().item()))
    loss_apart, gradient_apart = (max(each) for each in zip(*apart, strict=True))
    if max(loss_apart, gradient_apart) > FURTHEST_APART:
        raise SystemExit(f"not the same step: losses {loss_apart:.1e} apart, gradients {gradient_apart:.1e}")
    for _ in range(repeats):
        for name, kind in (("stock", GRPOTrainer), ("ours", DapoTrainer)):
            with tempfile.TemporaryDirectory() as folder:
                one = trainer(kind, checkpoint, texts, folder, STEPS)
                found.setdefault(f"whole step, {name}", []).append(seconds_a_step(one))
    ratios = {
        part: sorted(a / b for a, b in zip(found[f"{part}, stock"], found[f"{part}, ours"], strict=True))
        for part in ("rollouts", "loss and gradient", "whole step")
    }
    return {
        "prompt_tokens": [len(p) for p in prompts],
        "seconds": {name: round(statistics.median(values), 4) for name, values in found.items()},
        "times": {part: round(statistics.median(values), 2) for part, values in ratios.items()},
        "times_from_to": {part: [round(values[0], 2), round(values[-1], 2)] for part, values in ratios.items()},
        "loss_apart": loss_apart,
        "gradient_apart": gradient_apart,
    }


def main(run: Path, repeats: int = 5) -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus, ids = Corpus.load(run / "01_corpus"), SemanticIds.load(run / "02_sids")
    checkpoint = Checkpoint.load(run / "06_sft", corpus, ids)
    slates = Slates.load(run / "05_traces").split(Split.TRAIN)[:512]
    found: dict[str, Any] = {
        **origin("rl_step"),
        "versions": {"torch": torch.__version__, "trl": __import__("trl").__version__},
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        "prompts": PROMPTS,
        "group": GROUP,
        "repeats": repeats,
        **compare(checkpoint, [checkpoint.renderer.prompt(s, think=True) for s in slates], repeats),
    }
    ours, theirs = (found["seconds"][f"whole step, {side}"] for side in ("ours", "stock"))
    peer = {"name": "TRL's GRPOTrainer", "value": theirs}
    found |= {"ratio": found["times"]["whole step"], "ours": ours, "peer": peer, "unit": "CPU seconds a step"}
    write_json(RESULTS / f"rl_step_{run.name}.json", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    typer.run(main)
