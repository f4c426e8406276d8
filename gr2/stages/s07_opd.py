"""Stage 7: on-policy distillation, a thinking model that learns on what it writes itself.

Left out unless the config names a teacher: then the folder is empty. The student is the run's own mid-trained model,
or one of another shape that is mid-trained here from random weights. After a cold start on the kept traces (a model
that never wrote a thought would draw none) it answers training slates, and learns from the reward of its answers and
from the teacher's opinion of each of its tokens. Where it is its own teacher, it is the fine-tuned model, which writes
already. 08_rl goes on from here.

Reads: 01_corpus, 02_sids, 03_midtrain, 05_traces, 06_sft, and the teacher's folder. Writes: a checkpoint,
metrics.jsonl. Source: P2 §5, Eq. 4; forward KL, the cold start and the student as its own teacher are ours.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from transformers import AutoTokenizer

from gr2.artifacts import Corpus, SemanticIds, Slates, Traces, load_text_vectors
from gr2.distill.opd import forward_kl, next_logprobs, opd_loss, reverse_kl, roll_out, written_logprobs
from gr2.distill.teachers import Teacher, in_process, itself_told, served
from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate
from gr2.lm.batches import epoch_picks, pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.keep import keeper
from gr2.lm.loss import weighted_next_token
from gr2.lm.rank import rank_by_writing
from gr2.lm.train import FitConfig, fit
from gr2.record import RECORD, StageFolder, is_complete, read_json, stage_folder
from gr2.reward.conditional import conditional_reward
from gr2.rl.advantage import group_advantages
from gr2.stages import s03_midtrain, s06_sft
from gr2.teach.endpoint import ServerConfig
from gr2.types import AnswerStatus, Slate, Split, Trace

NAME = "07_opd"
READS = ("01_corpus", "02_sids", "03_midtrain", "05_traces", "06_sft")
ITSELF = "itself"
TOLD = ("forward_kl", "sft")
"""Objectives that read traces and write nothing."""


class Config(BaseModel):
    """Teacher, student and objective."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    teacher: str = ""
    """Folder of the teacher's checkpoint, such as runs/nano/08_rl, of the same ids and tokenizer; or "itself": the
    fine-tuned model, told the target, teaches itself not told (ours). Without one the stage is left out."""
    server: ServerConfig | None = None
    """Where that checkpoint is served, if not in this process; of the folder only the tokenizer is read then."""
    student: s03_midtrain.Config | None = None
    """Mid-train this student first (base = false where its shape is not nano's); left out: the run's mid-trained
    model."""
    objective: Literal["opd", "reverse_kl", "forward_kl", "sft"] = "opd"
    """Reward and reverse KL (P2 Eq. 4), reverse KL alone, forward KL on the kept traces (ours), or these traces as
    06_sft learns their words, the teacher unheard: what the others are to be compared with (ours)."""
    beta: float = Field(1.0, ge=0)
    """Weight of log teacher - log student beside an advantage (P2 Eq. 4; value ours)."""
    rollouts: int = Field(4, ge=2)
    """Answers a slate, G (ours)."""
    alpha: float = Field(0.2, ge=0)
    """Worth of a well-formed answer (P3: 0.2)."""
    cold_steps: int = Field(100, ge=0)
    """The first so many steps are forward KL on `batch_size` times `rollouts` kept traces each, or as "sft" where the
    teacher is behind a server (ours). None where the student is its own teacher."""
    traces: int | None = Field(None, ge=1)
    """Kept traces that are learned from, drawn at random; left out: all (ours)."""
    thought_tokens: int = Field(48, ge=1)
    """Longest thought; what is longer is cut off and not valid."""
    fit: FitConfig = FitConfig(steps=200, batch_size=8, learning_rate=5e-4, warmup_steps=10)
    """Training, the cold start included; `batch_size` slates a step."""
    valid_slates: int = Field(128, ge=0)
    """Validation slates looked at while training (ours)."""

    @property
    def cold(self) -> int:
        """Steps of the cold start."""
        return 0 if self.teacher == ITSELF else self.cold_steps

    def elsewhere(self) -> dict[str, Path]:
        """The teacher's folder, where it is read, by the name that it has in the record."""
        return {} if self.teacher in ("", ITSELF) else {"teacher": Path(self.teacher)}

    @model_validator(mode="after")
    def consistent(self) -> "Config":
        if self.teacher == ITSELF and (self.student or self.server or self.objective in TOLD):
            raise ValueError(f'teacher = "{ITSELF}" takes no student and no server, and writes: no "{self.objective}"')
        if self.server and not (self.teacher and self.server.base_url and self.server.model):
            raise ValueError("[opd.server] wants base_url, model and, for its tokenizer, the teacher's folder")
        if self.server and self.objective == "forward_kl":
            raise ValueError('objective = "forward_kl" wants the whole distribution; leave [opd.server] out')
        return self


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the student learns from and with; each loss is a pure function of the step and torch's generator."""

    student: Checkpoint
    teacher: Teacher
    train: Sequence[Slate]
    texts: s06_sft.Rows | None
    """The kept traces; None where no step reads them."""
    forgetting: Callable[[Sequence[Slate]], Tensor]
    """What the student loses of histories, where it has an item head (`lm.keep`)."""
    config: Config
    seed: int
    work: StageFolder

    def loss(self, step: int) -> Tensor:
        told = self.config.objective in TOLD or step < self.config.cold
        loss, of = self.told(step) if told else self.on_policy(step)
        return loss + self.forgetting(of)

    def told(self, step: int) -> tuple[Tensor, list[Slate]]:
        """Forward KL on kept traces, or the weighted next-token loss of 06_sft (P1); and their slates."""
        assert self.texts
        size = self.config.fit.batch_size * self.config.rollouts
        picks = epoch_picks(len(self.texts.tokens), size, step, self.seed)
        of = [self.texts.slates[i] for i in picks]
        tokens = pad_right([self.texts.tokens[i] for i in picks], self.student.tokenizer.pad_token_id)
        weights = pad_right([self.texts.weights[i] for i in picks], 0.0, torch.float32)
        if self.teacher.model is None or self.config.objective == "sft":
            return weighted_next_token(self.student.model, tokens, weights), of
        with torch.no_grad():
            theirs = next_logprobs(self.teacher.model, tokens)
        counts = (weights[:, 1:] > 0).float().to(theirs.device)
        return forward_kl(next_logprobs(self.student.model, tokens), theirs, counts), of

    def on_policy(self, step: int) -> tuple[Tensor, list[Slate]]:
        """Reward and reverse KL on what the student writes; and the slates that it was asked about."""
        config, group = self.config, self.config.rollouts
        asked = [self.train[i] for i in epoch_picks(len(self.train), config.fit.batch_size, step, self.seed + 1)]
        drawn = roll_out(self.student, asked, group, config.thought_tokens)
        paid = [
            conditional_reward(a, s, alpha=config.alpha).total for a, s in zip(drawn.answers, drawn.slates, strict=True)
        ]
        rewards_BG = torch.tensor(paid).view(-1, group)
        advantages_BG = group_advantages(rewards_BG)
        ours = written_logprobs(self.student.model, drawn.prompts, drawn.written)
        theirs, counts = self.teacher.say(drawn).to(ours.device), drawn.counts.to(ours.device)
        off = reverse_kl(ours.detach(), theirs, counts)
        self.work.metric(phase="rollouts", step=step, reward=rewards_BG.mean().item(), reverse_kl=off)
        if config.objective == "reverse_kl":
            advantages_BG = torch.zeros_like(rewards_BG)
        return opd_loss(ours, theirs, advantages_BG.flatten().to(ours.device), counts, config.beta), asked


def opd(
    student: Checkpoint,
    teacher: Teacher,
    slates: Slates,
    kept: Sequence[Trace],
    config: Config,
    sft: s06_sft.Config,
    seed: int,
    work: StageFolder,
) -> None:
    """Train the student's model in place; words of traces weigh as `sft` says. Raises UserError when a step would read
    traces and none was kept."""
    reads_traces = config.cold > 0 or config.objective in TOLD
    if reads_traces and not kept:
        raise UserError("05_traces: no trace was kept; raise [traces] attempts, or take no [opd] cold_steps")
    if config.traces:
        drawn = np.random.default_rng(seed).permutation(len(kept))[: config.traces]
        kept = [kept[i] for i in drawn]
    lesson = Lesson(
        student=student,
        teacher=teacher,
        train=slates.split(Split.TRAIN),
        texts=s06_sft.make_rows(student, slates, kept, sft) if reads_traces else None,
        forgetting=keeper(student),
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


def sft_config(folder: Path) -> s06_sft.Config:
    """What a run's 06_sft was made with."""
    made_with = read_json(folder / RECORD)["config"]
    return s06_sft.Config.model_validate({name: value for name, value in made_with.items() if name != "seed"})


def meet(config: Config, student: Checkpoint, corpus: Corpus, ids: SemanticIds) -> Teacher:
    """The teacher. Raises UserError when it has another
    tokenizer than the student."""
    if config.teacher == ITSELF:
        return itself_told(student.with_model(deepcopy(student.model).eval()))
    folder = Path(config.teacher)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if student.tokenizer.get_vocab() != tokenizer.get_vocab():
        raise UserError(f"[opd] teacher: {folder} has another tokenizer than the student; give both the same words")
    if config.server:
        return served(config.server)
    return in_process(Checkpoint.load(folder, corpus, ids).model)


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
    if config.teacher == ITSELF:
        return Checkpoint.load(run / READS[4], corpus, ids)
    if config.student is None:
        return Checkpoint.load(run / READS[2], corpus, ids)
    folder = work.path / "midtrained"
    if not is_complete(folder):
        inputs = {name: run / name for name in READS[:2]}
        vectors = load_text_vectors(run / READS[1]) if config.student.histories else None
        with stage_folder(folder, {**config.student.model_dump(), "seed": seed}, inputs) as inner:
            s03_midtrain.midtrain(corpus, ids, config.student, seed, inner, vectors).save(inner.path)
    return Checkpoint.load(folder, corpus, ids)


def main(run: Path, config: Config, seed: int) -> None:
    inputs = {name: run / name for name in READS} | config.elsewhere()
    with stage_folder(run / NAME, {**config.model_dump(), "seed": seed}, inputs) as work:
        if not config.teacher:
            work.counts["left_out"] = True
            return
        corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
        student = start(run, config, corpus, ids, seed, work)
        teacher = meet(config, student, corpus, ids)
        slates, kept = Slates.load(run / READS[3]), Traces.load(run / READS[3]).kept()
        opd(student, teacher, slates, kept, config, sft_config(run / READS[4]), seed, work)
        student.save(work.path)
        work.counts["parameters"] = student.model.num_parameters()
        work.counts["nats_per_item"] = s03_midtrain.validation_nats(student, corpus)["nats_per_item"]
