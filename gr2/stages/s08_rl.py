"""Stage 8: reinforcement learning of the thinking model, DAPO (or a neighbour of it) with a verifiable reward.

Rollouts are free (not held to valid answers): an invalid answer costs what the reward says. All training slates that
have a better and a worse candidate take part, also those whose traces were refused. Every rollout is kept in
rollouts.jsonl (`gr2 rollouts` shows them), and the weights kept are those that rank validation slates best, or, where
thoughts are paid for being true, think truest of those that think truer and rank no worse than before.

It goes on from 07_opd where that stage made a model, and from 06_sft otherwise.

Reads: 01_corpus, 02_sids, 04_slates, 05_traces, 06_sft, 07_opd. Writes: a checkpoint, metrics.jsonl, rollouts.jsonl.
Source: P1 §4, P2 §4, DAPO; values of P3 where stated.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_model
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.evaluate.metrics import recall_at_1
from gr2.evaluate.propensity import Examination
from gr2.evaluate.significance import is_above
from gr2.lm.checkpoint import Checkpoint, is_checkpoint
from gr2.lm.generate import Budget, longest_rollout
from gr2.lm.rank import rank_by_thinking
from gr2.progress import bar
from gr2.record import StageFolder, read_json, stage_folder, write_json
from gr2.reward.clicks import known_chances, weights_by_id
from gr2.reward.forms import FormName, can_teach, reward_form
from gr2.reward.overlong import overlong
from gr2.reward.scores import ndcg
from gr2.reward.truth import Witness
from gr2.rl.best import KeepBest
from gr2.rl.dapo import DapoTrainer
from gr2.rl.draft import answer_draft
from gr2.rl.objectives import OBJECTIVES, Algorithm
from gr2.rl.rollouts import Places, Scorer
from gr2.rl.shown import random_places, shown_as
from gr2.types import Slate, Split

NAME = "08_rl"
READS = ("01_corpus", "02_sids", "04_slates", "05_traces", "06_sft", "07_opd")
ROLLOUTS = "rollouts.jsonl"
LOGGED = ("reward", "reward_std", "completions/mean_length", "dynamic_sampling/live_share", "entropy")
"""Of what TRL logs."""


class Config(BaseModel):
    """The reward, the objective, and the length of the RL."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: int = Field(ge=1)
    """Optimizer steps (P3: 600)."""
    reward: FormName = "conditional"
    """conditional (P1), auc or ndcg (P2 Eq. 7), gain (ours); docs/rewards.md says what each lets through."""
    alpha: float = Field(0.2, ge=0)
    """Worth of a well-formed answer (P3: 0.2); gain has none."""
    truth: float = Field(0.0, ge=0)
    """Weight, beside the advantage of the whole, of how much truer a step of a thought is than its group's (ours,
    docs/08-rl.md). Thoughts of the evidence teacher's kind alone can be checked."""
    algorithm: Algorithm = "dapo"
    """dapo, grpo, dr_grpo, gspo or cispo: the loss, and the clips of its paper."""
    epsilon_low: float | None = Field(None, gt=0)
    """Another lower clip than the algorithm's (dapo: 0.2)."""
    epsilon_high: float | None = Field(None, gt=0)
    """Another upper clip than the algorithm's (dapo: 0.28, which is clip-higher)."""
    prompts: int = Field(8, ge=1)
    """Slates a step (ours)."""
    rollouts: int = Field(8, ge=2)
    """Answers a slate, G (P3: 8)."""
    updates: int = Field(1, ge=1)
    """Steps made with each batch of rollouts; with 1 no clip is ever reached (ours)."""
    learning_rate: float = Field(1e-4, ge=0)
    """AdamW's, constant (P3: 5e-7 for an 8B model)."""
    temperature: float = Field(1.0, gt=0)
    """Of the rollouts."""
    max_rounds: int = Field(3, ge=1)
    """Rounds of dynamic sampling a step; 1 switches it off (DAPO; value ours)."""
    thought_tokens: int = Field(48, ge=1)
    """Longest thought; longer rollouts are cut off."""
    mask_truncated: bool = True
    """Whether rollouts that were cut off are left out of the loss (DAPO)."""
    overlong_tokens: int = Field(0, ge=0)
    """Width of the band below the longest rollout in which length costs up to 1; 0 switches it off (DAPO)."""
    shuffle: bool = False
    """Whether the candidates are shown in a random order, so that a place carries no answer (method §4, ours)."""
    click_clip: float | None = Field(None, ge=1)
    """Of logged slates: a slate's advantages weigh by 1 / the chance that the place of its click is looked at, at most
    so much, with mean 1 (P2, ours). Left out: slates weigh alike."""
    valid_slates: int = Field(2048, ge=0)
    """Validation slates at most that decide which weights are kept (ours: by 128, and by 512, what did harm was)."""
    valid_steps: int = Field(20, ge=1)
    """Steps between two looks at them (ours)."""
    save_steps: int = Field(10, ge=1)
    """A checkpoint every so many batches of rollouts, from which an interrupted run goes on (ours)."""


def rl(
    checkpoint: Checkpoint,
    slates: Slates,
    config: Config,
    seed: int,
    work: StageFolder,
    examined: Examination | None = None,
    witness: Witness | None = None,
) -> None:
    """Train the checkpoint's model in place; thoughts are paid for being true where there is a `witness`. Raises
    UserError where clicks are to be weighed and `examined` does not say how likely places are looked at."""
    train = [s for s in slates.split(Split.TRAIN) if can_teach(s)]
    longest = longest_rollout(train, config.thought_tokens)
    scratch = work.path / "trl"
    places: Callable[[Slate], Places] = partial(random_places, seed=seed) if config.shuffle else as_stored
    scorer = Scorer(
        partial(checkpoint.tokenizer.decode, skip_special_tokens=False),
        slates.by_id,
        places,
        reward_form(config.reward, config.alpha),
        partial(overlong, longest=longest, soft=config.overlong_tokens),
        work.path / ROLLOUTS,
        witness.check if witness else None,
    )
    trainer = DapoTrainer(
        model=checkpoint.model,
        processing_class=checkpoint.tokenizer,
        reward_funcs=[scorer.score],
        train_dataset=Dataset.from_list(
            [
                {"prompt": checkpoint.renderer.prompt(shown_as(s, places(s)), think=True), "slate_id": s.slate_id}
                for s in train
            ]
        ),
        args=trl_config(config, seed, longest, scratch),
        callbacks=[Log(work, scorer)],
    )
    trainer.max_rounds, trainer.on_scored = config.max_rounds, scorer.keep
    trainer.draft = answer_draft(checkpoint.tokenizer)
    if witness:
        trainer.credit = lambda width: config.truth * scorer.credit(width, config.rollouts)
    if config.click_clip:
        weights = weights_by_id(train, known_chances(examined, "rl"), config.click_clip)
        trainer.weight_of = lambda row: weights[row["slate_id"]]
    trainer.remove_callback(PrinterCallback)
    valid = slates.split(Split.VALID)[: config.valid_slates]
    scratch.mkdir(exist_ok=True)
    look = partial(validate, checkpoint, valid, config, work, witness, scratch / "start.json")
    best = KeepBest(checkpoint.model, look, scratch / "best", config.valid_steps)
    if valid:
        trainer.add_callback(best)
    with bar() as progress:
        task = progress.add_task("rl", total=config.steps)
        trainer.add_callback(Advance(lambda step: progress.update(task, completed=step)))
        done = rewind(scratch, work.path / ROLLOUTS)
        if done < config.steps:
            trainer.train(resume_from_checkpoint=done > 0)
        else:  # interrupted after the last step; TRL would take one more
            load_model(checkpoint.model, scratch / f"checkpoint-{done}" / "model.safetensors")
    if valid:
        work.counts["kept_step"] = best.restore()
    checkpoint.model.eval()
    shutil.rmtree(scratch)


def as_stored(slate: Slate) -> Places:
    """Every candidate at the place at which it came in."""
    return tuple(range(len(slate.candidates)))


def trl_config(config: Config, seed: int, longest: int, scratch: Path) -> GRPOConfig:
    """Our words in TRL's; rollouts are at most `longest` tokens."""
    objective = OBJECTIVES[config.algorithm]
    return GRPOConfig(
        output_dir=str(scratch),
        seed=seed,
        max_steps=config.steps,
        per_device_train_batch_size=config.prompts * config.rollouts,
        gradient_accumulation_steps=1,
        num_generations=config.rollouts,
        num_iterations=config.updates,
        max_completion_length=longest,
        mask_truncated_completions=config.mask_truncated,
        loss_type=objective.loss_type,
        importance_sampling_level=objective.importance_sampling_level,
        scale_rewards=objective.scale_rewards,
        epsilon=objective.epsilon if config.epsilon_low is None else config.epsilon_low,
        epsilon_high=objective.epsilon_high if config.epsilon_high is None else config.epsilon_high,
        beta=0.0,
        temperature=config.temperature,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        bf16=False,
        activation_checkpointing=False,
        logging_steps=1,
        save_steps=config.save_steps * config.updates,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
    )


def validate(
    checkpoint: Checkpoint,
    slates: Sequence[Slate],
    config: Config,
    work: StageFolder,
    witness: Witness | None,
    start: Path,
    step: int,
) -> float:
    """How good the model is, thinking as it is served and as tables have it: mean NDCG; where thoughts are paid for
    being true, their mean truth, and -inf if, slate by slate and against step 0, which is kept in the file `start`, the
    NDCG is lower by more than one standard error or the truth not higher by more than two. So truth does not cost what
    can be told, nor is anything risked for a truth that cannot."""
    rankings = rank_by_thinking(checkpoint, slates, budget=Budget(thought=config.thought_tokens), label=None)
    ndcg_n = np.array([ndcg(r.order, s.gains) for r, s in zip(rankings, slates, strict=True)])
    metrics = {"r1_thinking": recall_at_1(slates, rankings), "ndcg": float(ndcg_n.mean())}
    if witness is None:
        work.metric(phase="rl_valid", step=step, **metrics)
        return metrics["ndcg"]
    truth_n = np.array([t.total for t in witness.check_cited(slates, [r.thought for r in rankings])])
    truth = float(truth_n.mean())
    work.metric(phase="rl_valid", step=step, **metrics, truth=truth)
    if step == 0:
        write_json(start, {"ndcg": ndcg_n.tolist(), "truth": truth_n.tolist()})
        return truth
    before = read_json(start)
    worse_n, truer_n = np.array(before["ndcg"]) - ndcg_n, truth_n - np.array(before["truth"])
    return -np.inf if is_above(worse_n, errors=1) or not is_above(truer_n, errors=2) else truth


def rewind(scratch: Path, rollouts: Path) -> int:
    """Steps of the newest whole checkpoint. What was written after it is made again, so it is thrown away."""
    for folder in scratch.glob("checkpoint-*"):
        if not (folder / "trainer_state.json").exists():  # the file that is written last
            shutil.rmtree(folder)
    done = max((int(folder.name.rpartition("-")[2]) for folder in scratch.glob("checkpoint-*")), default=0)
    if rollouts.exists():
        *lines, _ = rollouts.read_text(encoding="utf-8").split("\n")  # the last is empty, or torn
        kept = [f"{line}\n" for line in lines if json.loads(line)["step"] < done]
        rollouts.write_text("".join(kept), encoding="utf-8")
    return done


class Log(TrainerCallback):
    """TRL's log lines, and the probes of the step's rollouts -> metrics.jsonl."""

    def __init__(self, work: StageFolder, scorer: Scorer) -> None:
        self.work, self.scorer = work, scorer

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "reward" in logs:
            values = {name.split("/")[-1]: float(logs[name]) for name in LOGGED if name in logs}
            self.work.metric(phase="rl", step=state.global_step, **values, **self.scorer.take_probes())


class Advance(TrainerCallback):
    """Moves the progress bar."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step)


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    before = READS[5] if is_checkpoint(run / READS[5]) else READS[4]
    slates, checkpoint = Slates.load(run / READS[3]), Checkpoint.load(run / before, corpus, ids)
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        witness = Witness.of(corpus, checkpoint.renderer) if config.truth else None
        rl(checkpoint, slates, config, seed, work, Examination.load(run / READS[2]), witness)
        checkpoint.save(work.path)
