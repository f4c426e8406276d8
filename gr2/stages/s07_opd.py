"""Stage 7: on-policy distillation, a smaller thinking model that learns on what it writes itself.

Left out unless the config names a teacher: then the folder is empty. The student is the run's own mid-trained model,
or one of another shape that is mid-trained here from random weights. After a cold start on the kept traces (a model
that never wrote a thought would draw none) it answers training slates, and learns from the reward of its answers and
from the teacher's opinion of each of its tokens.

Reads: 01_corpus, 02_sids, 03_midtrain, 04_slates, 05_traces, and the teacher's folder. Writes: a checkpoint,
metrics.jsonl. Source: P2 §5, Eq. 4; forward KL and the cold start are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds, Slates, Traces
from gr2.distill.opd import forward_kl, next_logprobs, of_tokens, opd_loss, reverse_kl, roll_out
from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate
from gr2.lm.batches import epoch_picks, pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.rank import rank_by_writing
from gr2.lm.train import FitConfig, fit
from gr2.record import StageFolder, is_complete, stage_folder
from gr2.reward.conditional import conditional_reward
from gr2.rl.advantage import group_advantages
from gr2.stages import s03_midtrain, s06_sft
from gr2.types import AnswerStatus, Slate, Split, Trace

NAME = "07_opd"
READS = ("01_corpus", "02_sids", "03_midtrain", "04_slates", "05_traces")


class Config(BaseModel):
    """Teacher, student and objective."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    teacher: str = ""
    """Folder of the teacher's checkpoint, such as runs/nano/08_rl, of the same ids and tokenizer; without one the stage
    is left out."""
    student: s03_midtrain.Config | None = None
    """Mid-train this student first (base = false where its shape is not nano's); left out: the run's mid-trained
    model."""
    objective: Literal["opd", "reverse_kl", "forward_kl"] = "opd"
    """Reward and reverse KL (P2 Eq. 4), reverse KL alone, or forward KL on the kept traces (ours)."""
    beta: float = Field(1.0, ge=0)
    """Weight of log teacher - log student beside an advantage (P2 Eq. 4; value ours)."""
    rollouts: int = Field(4, ge=2)
    """Answers a slate, G (ours)."""
    alpha: float = 0.2
    """Worth of a well-formed answer (P3: 0.2)."""
    cold_steps: int = Field(100, ge=0)
    """The first so many steps are forward KL on `batch_size` times `rollouts` kept traces each (ours)."""
    thought_tokens: int = 48
    """Longest thought; what is longer is cut off and not valid."""
    fit: FitConfig = FitConfig(steps=200, batch_size=8, learning_rate=5e-4, warmup_steps=10)
    """Training, the cold start included; `batch_size` slates a step."""
    valid_slates: int = 128
    """Validation slates looked at while training (ours)."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the student learns from and with; each loss is a pure function of the step and torch's generator."""

    student: Checkpoint
    teacher: Checkpoint
    train: Sequence[Slate]
    texts: s06_sft.Rows | None
    """The kept traces; None where no step reads them."""
    config: Config
    seed: int
    work: StageFolder

    def loss(self, step: int) -> Tensor:
        told = self.config.objective == "forward_kl" or step < self.config.cold_steps
        return self.told(step) if told else self.on_policy(step)

    def told(self, step: int) -> Tensor:
        """Forward KL on kept traces."""
        assert self.texts
        size = self.config.fit.batch_size * self.config.rollouts
        picks = epoch_picks(len(self.texts.tokens), size, step, self.seed)
        tokens = pad_right([self.texts.tokens[i] for i in picks], self.student.tokenizer.pad_token_id)
        counts = pad_right([[float(w > 0) for w in self.texts.weights[i]] for i in picks], 0.0, torch.float32)
        with torch.no_grad():
            theirs = next_logprobs(self.teacher.model, tokens)
        return forward_kl(next_logprobs(self.student.model, tokens), theirs, counts[:, 1:].to(theirs.device))

    def on_policy(self, step: int) -> Tensor:
        """Reward and reverse KL on what the student writes."""
        config, group = self.config, self.config.rollouts
        asked = [self.train[i] for i in epoch_picks(len(self.train), config.fit.batch_size, step, self.seed + 1)]
        longest = config.thought_tokens + max(len(s.candidates) for s in asked) + 2
        drawn = roll_out(self.student, asked, group, longest)
        of = [s for s in asked for _ in range(group)]
        paid = [conditional_reward(a, s, alpha=config.alpha).total for a, s in zip(drawn.answers, of, strict=True)]
        rewards_BG = torch.tensor(paid).view(-1, group)
        advantages_BG = group_advantages(rewards_BG)
        with torch.no_grad():
            theirs = of_tokens(next_logprobs(self.teacher.model, drawn.tokens), drawn.tokens)
        ours = of_tokens(next_logprobs(self.student.model, drawn.tokens), drawn.tokens)
        counts = drawn.written[:, 1:].to(ours.device)
        off = reverse_kl(ours.detach(), theirs, counts)
        self.work.metric(phase="rollouts", step=step, reward=rewards_BG.mean().item(), reverse_kl=off)
        if config.objective == "reverse_kl":
            advantages_BG = torch.zeros_like(rewards_BG)
        return opd_loss(ours, theirs, advantages_BG.flatten().to(ours.device), counts, config.beta)


def opd(
    student: Checkpoint,
    teacher: Checkpoint,
    slates: Slates,
    kept: Sequence[Trace],
    config: Config,
    seed: int,
    work: StageFolder,
) -> None:
    """Train the student's model in place. Raises UserError when the two have other tokenizers, or no trace was kept."""
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise UserError(
            f"[opd] teacher: {config.teacher} has another tokenizer than the student; give both the same words"
        )
    if not kept and (config.cold_steps or config.objective == "forward_kl"):
        raise UserError("05_traces: no trace was kept; raise [traces] attempts, or take no [opd] cold_steps")
    weights = s06_sft.Config.model_validate({"fit": config.fit})
    lesson = Lesson(
        student=student,
        teacher=teacher,
        train=slates.split(Split.TRAIN),
        texts=s06_sft.make_rows(student, slates, kept, weights) if kept else None,
        config=config,
        seed=seed,
        work=work,
    )
    valid = slates.split(Split.VALID)[: config.valid_slates]
    fit(
        student.model,
        lambda step: step,
        lesson.loss,
        config.fit,
        work,
        phase="opd",
        seed=seed,
        evaluate=lambda: thinking_metrics(student, valid, config.thought_tokens),
    )


def thinking_metrics(checkpoint: Checkpoint, slates: Sequence[Slate], thought_tokens: int) -> dict[str, float]:
    """Of free answers: R@1, N@3, the share that is valid, and what share of those only copies the incoming order."""
    if not slates:
        return {}
    budget = Budget(thought=thought_tokens)
    rankings = rank_by_writing(checkpoint, slates, constrained=False, budget=budget, label=None)
    valid = [r for r in rankings if r.status is AnswerStatus.VALID]
    copies = sum(list(r.order) == sorted(r.order) for r in valid)
    values = per_slate(slates, rankings)
    return {
        "r1_thinking": float(values["R@1"].mean()),
        "n3_thinking": float(values["N@3"].mean()),
        "valid_share": len(valid) / len(rankings),
        "copied_share": copies / max(1, len(valid)),
    }


def start(run: Path, config: Config, corpus: Corpus, ids: SemanticIds, seed: int, work: StageFolder) -> Checkpoint:
    """The student as it is before it has met the teacher."""
    if config.student is None:
        return Checkpoint.load(run / READS[2], corpus, ids)
    folder = work.path / "midtrained"
    if not is_complete(folder):
        inputs = {name: run / name for name in READS[:2]}
        with stage_folder(folder, {**config.student.model_dump(), "seed": seed}, inputs) as inner:
            s03_midtrain.midtrain(corpus, ids, config.student, seed, inner).save(inner.path)
    return Checkpoint.load(folder, corpus, ids)


def main(run: Path, config: Config, seed: int) -> None:
    inputs = {name: run / name for name in READS} | ({"teacher": Path(config.teacher)} if config.teacher else {})
    with stage_folder(run / NAME, {**config.model_dump(), "seed": seed}, inputs) as work:
        if not config.teacher:
            work.counts["left_out"] = True
            return
        corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
        teacher = Checkpoint.load(Path(config.teacher), corpus, ids)
        student = start(run, config, corpus, ids, seed, work)
        opd(student, teacher, Slates.load(run / READS[3]), Traces.load(run / READS[4]).kept(), config, seed, work)
        student.save(work.path)
        work.counts["parameters"] = student.model.num_parameters()
        work.counts["nats_per_item"] = s03_midtrain.validation_nats(student, corpus)["nats_per_item"]
