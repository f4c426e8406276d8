"""The direct model of a finished run, made smaller in two ways; each goes into a folder of its own and is made once.

pruned-N: N of its layers, 3/4, 1/2 and 1/4 of them: the others are left out one after the other, and at each of the
three the rest is distilled again. small-N: about 1/N of its parameters, mid-trained from random weights as the run's
own model was, then distilled; where that started from a pretrained model, a smaller pretrained one of name N. opd-N:
the same mid-trained model, distilled on policy instead.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds, Slates, load_text_vectors
from gr2.distill.listwise import Objective, distill, harm, off_policy, on_policy, one_pass_scores, watch
from gr2.distill.prune import least_missed
from gr2.errors import UserError
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.feature_reader import attach_new, reader_of
from gr2.lm.nano import NanoConfig
from gr2.lm.train import FitConfig
from gr2.record import RECORD, StageFolder, is_complete, key_of, read_json, stage_folder
from gr2.stages import s03_midtrain
from gr2.types import Slate, Split

SHAPES = {
    "4": NanoConfig(width=64, layers=3, head_width=32, feed=224),
    "16": NanoConfig(width=32, layers=2, head_width=16, feed=96),
}
"""About 1/4 and 1/16 of nano's parameters, embeddings included."""
OBJECTIVES: Mapping[str, Objective] = {"small": off_policy, "opd": on_policy}
SMALL = FitConfig(steps=1200, batch_size=32, learning_rate=3e-3, warmup_steps=50)
PRUNED = FitConfig(steps=200, batch_size=32, learning_rate=1e-3, warmup_steps=20)
"""Of nano's students; those of a pretrained model are trained as [direct.fit] says."""
LOOKED_AT = 256
"""Validation slates that choose the layer to leave out, and that are looked at while training."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run, read only, and the folder that the students go into."""

    run: Path
    out: Path

    @cached_property
    def corpus(self) -> Corpus:
        return Corpus.load(self.run / "01_corpus")

    @cached_property
    def ids(self) -> SemanticIds:
        return SemanticIds.load(self.run / "02_sids")

    @cached_property
    def vectors(self) -> np.ndarray:
        """Of the items' texts."""
        return load_text_vectors(self.run / "02_sids")

    @cached_property
    def slates(self) -> Slates:
        """With the advice that the direct model heard."""
        return Slates.load(self.run / "10_direct")

    @cached_property
    def seed(self) -> int:
        return int(self.record("10_direct")["config"]["seed"])

    @cached_property
    def direct(self) -> Checkpoint:
        """What the students learn from; read only."""
        return self.checkpoint(self.run / "10_direct")

    @cached_property
    def watched(self) -> tuple[Sequence[Slate], Tensor]:
        """The first validation slates, and the direct model's scores of them."""
        shown = self.slates.split(Split.VALID)[:LOOKED_AT]
        return shown, one_pass_scores(self.direct, shown, None)

    @cached_property
    def start(self) -> dict[str, Any]:
        """The config of its mid-training."""
        return {k: v for k, v in self.record("03_midtrain")["config"].items() if k != "seed"}

    def fit(self, nano: FitConfig) -> FitConfig:
        """`nano`, or as the direct model was trained where it is a pretrained one."""
        own = self.record("10_direct")["config"]["fit"]
        return FitConfig.model_validate(own) if self.start["pretrained"] else nano

    def record(self, stage: str) -> dict[str, Any]:
        return read_json(self.run / stage / RECORD)

    def checkpoint(self, folder: Path) -> Checkpoint:
        return Checkpoint.load(folder, self.corpus, self.ids)

    def make(
        self, name: str, key: Mapping[str, Any], inputs: Sequence[Path], train: Callable[[StageFolder], Checkpoint]
    ) -> Path:
        """The folder of a checkpoint, made now unless it is complete. Raises UserError when it was made otherwise."""
        folder, of = self.out / name, {path.name: path for path in inputs}
        full = {**key, "seed": self.seed}
        if not is_complete(folder):
            with stage_folder(folder, full, of) as work:
                train(work).save(work.path)
        elif {k: read_json(folder / RECORD)[k] for k in ("config", "inputs")} != key_of(full, of):
            raise UserError(f"{folder}: made with another config or inputs; delete it and run again")
        return folder

    def teacher_scores(self) -> Tensor:
        """(n, K) of the direct model on the training slates; kept, since every student learns from them."""
        path = self.out / f"teacher-{self.record('10_direct')['digest']}.safetensors"
        if not path.exists():
            scores = one_pass_scores(self.direct, self.slates.split(Split.TRAIN), "the teacher's scores")
            self.out.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".partial")
            save_file({"scores": scores.contiguous()}, aside)
            os.replace(aside, path)
        return load_file(path)["scores"]


def make_students(run: Run, pretrained: Sequence[str] = ()) -> dict[str, Path]:
    """All of them, name -> folder; goes on where a stopped call was. `pretrained`: names of pretrained models or their
    folders, for students of a run that started from one. Raises UserError where the run did not."""
    starts = smaller_starts(run, pretrained)
    shorter: dict[str, Path] = {}
    of, fit = run.run / "10_direct", run.fit(PRUNED)
    for layers in depths(int(run.direct.model.config.num_hidden_layers)):
        name, train = f"pruned-{layers}", partial(pruned, run, of, layers, fit)
        of = shorter[name] = run.make(name, fit.model_dump(), [of, run.run / "10_direct"], train)
    middles = {name: midtrained(run, f"small-{name}-midtrained", config) for name, config in starts.items()}
    return shorter | {
        f"{kind}-{name}": small(run, f"{kind}-{name}", middle, objective)
        for kind, objective in OBJECTIVES.items()
        for name, middle in middles.items()
    }


def depths(layers: int) -> list[int]:
    """3/4, 1/2 and 1/4 of so many layers, at least one and less than all."""
    return sorted({n for n in (3 * layers // 4, layers // 2, layers // 4) if 0 < n < layers}, reverse=True)


def smaller_starts(run: Run, pretrained: Sequence[str]) -> dict[str, s03_midtrain.Config]:
    """Name -> how a small student is mid-trained: as the run's own model was, from another start."""
    if run.start["pretrained"]:
        return {Path(p).name: s03_midtrain.Config.model_validate({**run.start, "pretrained": p}) for p in pretrained}
    if pretrained:
        raise UserError(f"{run.run}: starts from gr2's own base, and so do its students; leave --student out")
    return {
        size: s03_midtrain.Config.model_validate({**run.start, "nano": shape.model_dump(), "base": False})
        for size, shape in SHAPES.items()
    }


def pruned(run: Run, of: Path, layers: int, fit: FitConfig, work: StageFolder) -> Checkpoint:
    """`layers` of the layers of the checkpoint in `of`, distilled again from the direct model."""
    shown, scores = run.watched
    student, left_out = run.checkpoint(of), list[list[float]]()
    while len(student.model.model.layers) > layers:
        student, harms = least_missed(student, lambda one: harm(one, shown, scores))
        left_out.append([round(value, 4) for value in harms])
    work.counts["harms"] = left_out
    return distilled(run, student, fit, work)


def midtrained(run: Run, name: str, config: s03_midtrain.Config) -> Path:
    """A model mid-trained so on the run's corpus."""
    corpus_ids = [run.run / "01_corpus", run.run / "02_sids"]
    return run.make(
        name,
        config.model_dump(),
        corpus_ids,
        lambda work: s03_midtrain.midtrain(run.corpus, run.ids, config, run.seed, work, run.vectors),
    )


def small(run: Run, name: str, middle: Path, objective: Objective) -> Path:
    """The mid-trained model in `middle`, distilled."""
    fit = run.fit(SMALL)
    return run.make(
        name,
        fit.model_dump(),
        [middle, run.run / "10_direct"],
        lambda work: distilled(run, reading_as(run.direct, run.checkpoint(middle), run.seed), fit, work, objective),
    )


def reading_as(direct: Checkpoint, student: Checkpoint, seed: int) -> Checkpoint:
    """The student with the direct model's weights of the voices, a reader of features where that has one, and its short
    contexts."""
    student, reader = replace(student, **direct.voices), reader_of(direct.model)
    if reader is not None:
        attach_new(student.model, reader.n_features, seed)
    return student.with_compressor(direct.compressor) if direct.compressor else student


def distilled(
    run: Run, student: Checkpoint, config: FitConfig, work: StageFolder, objective: Objective = off_policy
) -> Checkpoint:
    shown, scores = run.watched
    train, teacher = run.slates.split(Split.TRAIN), run.teacher_scores()
    evaluate = partial(watch, student, shown, scores)
    distill(student, train, teacher, config, run.seed, work, evaluate, objective)
    return student
