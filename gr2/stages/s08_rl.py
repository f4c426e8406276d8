"""Stage 8: reinforcement learning of the thinking model, DAPO with the conditional verifiable reward.

Rollouts are free (not held to valid answers): an invalid answer costs what the reward says. All training slates take
part, also those whose traces were refused. Every rollout is kept in rollouts.jsonl.

Reads: 01_corpus, 02_sids, 04_slates, 06_sft. Writes: a checkpoint, metrics.jsonl, rollouts.jsonl.
Source: P1 §4, DAPO; values of P3 where stated.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_model
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.lm.checkpoint import Checkpoint
from gr2.progress import bar
from gr2.prompt.parse import parse
from gr2.record import StageFolder, stage_folder
from gr2.reward.conditional import conditional_reward
from gr2.rl.dapo import DapoTrainer
from gr2.types import Split

NAME = "08_rl"
READS = ("01_corpus", "02_sids", "04_slates", "06_sft")


class Config(BaseModel):
    """Size and length of the RL."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: int
    """Optimizer steps (P3: 600)."""
    prompts: int = 8
    """Slates a step (ours)."""
    rollouts: int = 8
    """Answers a slate, G (P3: 8)."""
    learning_rate: float = 1e-4
    """AdamW's, constant (P3: 5e-7 for an 8B model)."""
    epsilon_low: float = 0.2
    """Lower clip (P3: 0.2)."""
    epsilon_high: float = 0.28
    """Upper clip (DAPO: 0.28)."""
    alpha: float = 0.2
    """Worth of a well-formed answer (P3: 0.2)."""
    temperature: float = 1.0
    """Of the rollouts."""
    max_rounds: int = 3
    """Rounds of dynamic sampling a step (ours)."""
    thought_tokens: int = 48
    """Longest thought; longer rollouts are cut off and masked (DAPO)."""
    save_steps: int = 10
    """A checkpoint every so many steps, from which an interrupted run goes on (ours)."""


def rl(checkpoint: Checkpoint, slates: Slates, config: Config, seed: int, work: StageFolder) -> None:
    """Train the checkpoint's model in place."""
    train = slates.split(Split.TRAIN)
    answer_tokens = max(len(s.candidates) for s in train) + 2
    scratch = work.path / "trl"
    trainer = DapoTrainer(
        model=checkpoint.model,
        processing_class=checkpoint.tokenizer,
        reward_funcs=[make_reward(checkpoint, slates, config.alpha, work.path / "rollouts.jsonl")],
        train_dataset=Dataset.from_list(
            [{"prompt": checkpoint.renderer.prompt(s, think=True), "slate_id": s.slate_id} for s in train]
        ),
        args=GRPOConfig(
            output_dir=str(scratch),
            seed=seed,
            max_steps=config.steps,
            per_device_train_batch_size=config.prompts * config.rollouts,
            gradient_accumulation_steps=1,
            num_generations=config.rollouts,
            max_completion_length=config.thought_tokens + answer_tokens,
            mask_truncated_completions=True,
            loss_type="dapo",
            epsilon=config.epsilon_low,
            epsilon_high=config.epsilon_high,
            beta=0.0,
            temperature=config.temperature,
            learning_rate=config.learning_rate,
            lr_scheduler_type="constant",
            bf16=False,
            activation_checkpointing=False,
            logging_steps=1,
            save_steps=config.save_steps,
            save_total_limit=1,
            report_to=[],
            disable_tqdm=True,
        ),
        callbacks=[Log(work)],
    )
    trainer.max_rounds = config.max_rounds
    trainer.remove_callback(PrinterCallback)
    with bar() as progress:
        task = progress.add_task("rl", total=config.steps)
        trainer.add_callback(Advance(lambda step: progress.update(task, completed=step)))
        done = rewind(scratch, work.path / "rollouts.jsonl")
        if done < config.steps:
            trainer.train(resume_from_checkpoint=done > 0)
        else:  # interrupted after the last step; TRL would take one more
            load_model(checkpoint.model, scratch / f"checkpoint-{done}" / "model.safetensors")
    checkpoint.model.eval()
    shutil.rmtree(scratch)


def rewind(scratch: Path, rollouts: Path) -> int:
    """Steps of the newest whole checkpoint. What was written after it is made again, so it is thrown away."""
    for folder in scratch.glob("checkpoint-*"):
        if not (folder / "trainer_state.json").exists():  # the file that is written last
            shutil.rmtree(folder)
    done = max((int(folder.name.rpartition("-")[2]) for folder in scratch.glob("checkpoint-*")), default=0)
    if rollouts.exists():
        lines = rollouts.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < done]
        rollouts.write_text("".join(kept), encoding="utf-8")
    return done


def make_reward(
    checkpoint: Checkpoint, slates: Slates, alpha: float, rollouts: Path
) -> Callable[..., list[float | None]]:
    """A TRL reward function that reads completions by token numbers, since decoded text may lack tokens."""

    def reward(
        completion_ids: list[list[int]], slate_id: list[str], trainer_state: Any = None, **_: Any
    ) -> list[float | None]:
        totals: list[float | None] = []
        with rollouts.open("a", encoding="utf-8") as file:
            for tokens, name in zip(completion_ids, slate_id, strict=True):
                text = checkpoint.tokenizer.decode(tokens, skip_special_tokens=False)
                slate = slates.by_id[name]
                answer = parse(text, len(slate.candidates))
                value = conditional_reward(answer, slate, alpha=alpha)
                totals.append(value.total)
                row = {"step": trainer_state.global_step if trainer_state else None, "slate_id": name, "text": text}
                file.write(json.dumps({**row, "status": answer.status, "reward": value.total}) + "\n")
        return totals

    return reward


class Log(TrainerCallback):
    """TRL's log lines -> metrics.jsonl."""

    def __init__(self, work: StageFolder) -> None:
        self.work = work

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "reward" in logs:
            names = ("reward", "reward_std", "completions/mean_length", "dynamic_sampling/live_share", "entropy")
            self.work.metric(
                phase="rl", step=state.global_step, **{n.split("/")[-1]: float(logs[n]) for n in names if n in logs}
            )


class Advance(TrainerCallback):
    """Moves the progress bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step)


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    slates, checkpoint = Slates.load(run / READS[2]), Checkpoint.load(run / READS[3], corpus, ids)
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        rl(checkpoint, slates, config, seed, work)
        checkpoint.save(work.path)
