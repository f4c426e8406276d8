"""On-policy distillation on the made-up shop: the student takes after its teacher, by each objective."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import shop
import torch
from pydantic import ValidationError

from gr2.artifacts import Traces
from gr2.distill.teachers import in_process
from gr2.errors import UserError
from gr2.lm.alignment import Mix
from gr2.lm.keep import change
from gr2.lm.train import FitConfig
from gr2.record import read_json, read_metrics
from gr2.stages import s03_midtrain, s06_sft, s07_opd
from gr2.types import Split

SLATES = shop.all_slates(300, 40)
MIDTRAIN = s03_midtrain.Config(
    nano=shop.NANO,
    base=False,
    history=5,
    k=shop.K,
    mix=Mix(preference=0.5, slate=0.5, caption=0, persona=0, language=0),
    fit=FitConfig(steps=400, batch_size=16, learning_rate=1e-2, warmup_steps=20),
)
SFT = s06_sft.Config(fit=FitConfig(steps=200, batch_size=16, learning_rate=5e-3, warmup_steps=10), valid_slates=20)
OPD = s07_opd.Config(
    teacher="teacher",
    cold_steps=70,
    thought_tokens=12,
    valid_slates=20,
    fit=FitConfig(steps=110, batch_size=4, learning_rate=3e-3, warmup_steps=10),
)


TRACES = Traces(traces=tuple(map(shop.oracle, SLATES.split(Split.TRAIN))))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A mid-trained student, and the teacher that it became by SFT."""
    folder = tmp_path_factory.mktemp("models")
    student = s03_midtrain.midtrain(shop.corpus(60), shop.semantic_ids(), MIDTRAIN, 0, shop.work(folder / "midtrain"))
    teacher = shop.clone(student)
    s06_sft.sft(teacher, SLATES, TRACES, SFT, 0, shop.work(folder / "sft"))
    return student, teacher


def taught(models, folder, **changes):
    student, teacher = shop.clone(models[0]), models[1].model
    config = OPD.model_copy(update=changes)
    s07_opd.opd(student, in_process(teacher), SLATES, TRACES.kept(), config, SFT, 0, shop.work(folder))
    return student


def test_the_student_takes_after_its_teacher(models, tmp_path):
    """Per token it wrote: a mean of the last ten steps, below that of the first ten after the cold start."""
    taught(models, tmp_path)
    rows = [row for row in read_metrics(tmp_path) if row["phase"] == "rollouts"]
    assert [row["step"] for row in rows] == list(range(70, 110))
    first, last = (sum(row["reverse_kl"] for row in part) / 10 for part in (rows[:10], rows[-10:]))
    assert last < 0.9 * first


def test_forward_kl_writes_nothing_and_learns_to_answer(models, tmp_path):
    student = taught(models, tmp_path, objective="forward_kl", fit=OPD.fit.model_copy(update={"steps": 220}))
    assert not [row for row in read_metrics(tmp_path) if row["phase"] == "rollouts"]
    losses = [row["loss"] for row in read_metrics(tmp_path) if row["phase"] == "opd"]
    assert losses[-1] < 0.3 * losses[0]
    valid = SLATES.split(Split.VALID)
    before, after = (s07_opd.thinking_metrics(one, valid, 12)["valid_share"] for one in (models[0], student))
    assert after > max(before, 0.8)


def test_sft_hears_no_teacher_and_learns_from_so_many_traces(models, tmp_path):
    fit = OPD.fit.model_copy(update={"steps": 2, "batch_size": 1, "warmup_steps": 1})
    kept = TRACES.kept()
    two = [kept[i] for i in np.random.default_rng(0).permutation(len(kept))[:2]]

    def weights(teacher, kept, **changes):
        student, update = shop.clone(models[0]), {"fit": fit, "rollouts": 2, "valid_slates": 0, **changes}
        config = OPD.model_copy(update=update)
        s07_opd.opd(student, in_process(teacher), SLATES, kept, config, SFT, 0, shop.work(tmp_path))
        return torch.cat([p.detach().flatten() for p in student.model.parameters()])

    taught = weights(models[1].model, kept, objective="sft", traces=2)
    assert torch.equal(taught, weights(models[0].model, two, objective="sft"))
    assert not torch.equal(taught, weights(models[1].model, kept, objective="sft"))
    assert not torch.equal(taught, weights(models[1].model, two, objective="forward_kl"))


def test_reverse_kl_reads_no_reward(models, tmp_path):
    """With every target elsewhere the same weights come out; with rewards they would not. The one who writes well is
    the student here, or all answers would earn the same."""
    fit = OPD.fit.model_copy(update={"steps": 3, "warmup_steps": 1})
    moved = replace(SLATES, slates=tuple(replace(s, gains=(*s.gains[1:], s.gains[0])) for s in SLATES.slates))

    def weights(slates, objective):
        student = models[1].with_model(copy.deepcopy(models[1].model))
        config = OPD.model_copy(update={"objective": objective, "fit": fit, "cold_steps": 0, "valid_slates": 0})
        s07_opd.opd(student, in_process(models[0].model), slates, (), config, SFT, 0, shop.work(tmp_path))
        return torch.cat([p.detach().flatten() for p in student.model.parameters()])

    assert torch.equal(weights(SLATES, "reverse_kl"), weights(moved, "reverse_kl"))
    assert not torch.equal(weights(SLATES, "reverse_kl"), weights(SLATES, "opd"))


def test_told_the_target_it_teaches_itself(models, tmp_path):
    """The fine-tuned model names a candidate that the neighbours name more often than it would unknowing; after it has
    taught itself, its own words are likelier to the one that was told."""
    config = s07_opd.Config(teacher="itself", thought_tokens=12, valid_slates=20, fit=OPD.fit, beta=1.0)
    fit = OPD.fit.model_copy(update={"steps": 60, "learning_rate": 1e-3})
    config = config.model_copy(update={"fit": fit, "objective": "reverse_kl"})
    student = shop.clone(models[1])
    teacher = s07_opd.meet(config, student, shop.corpus(60), shop.semantic_ids())
    assert teacher.model is None
    s07_opd.opd(student, teacher, SLATES, (), config, SFT, 0, shop.work(tmp_path))
    rows = [row["reverse_kl"] for row in read_metrics(tmp_path) if row["phase"] == "rollouts"]
    assert len(rows) == 60
    assert sum(rows[-10:]) < 0.9 * sum(rows[:10])


def test_what_an_item_head_reads_of_histories_is_kept(tmp_path, monkeypatch):
    """Ten steps at a high rate change its states of histories, and far less than where nobody minds."""
    fit = FitConfig(steps=10, batch_size=4, learning_rate=3e-3, warmup_steps=1)
    config = s07_opd.Config(teacher="itself", objective="reverse_kl", thought_tokens=6, valid_slates=0, fit=fit)
    before = shop.checkpoint_with_head()
    row = torch.tensor([before.history_tokens(SLATES.slates[0].history)])
    was = before.model.model(row).last_hidden_state

    def changed() -> float:
        student = shop.clone(before)
        teacher = s07_opd.meet(config, student, shop.corpus(60), shop.semantic_ids())
        s07_opd.opd(student, teacher, SLATES, (), config, SFT, 0, shop.work(tmp_path))
        return change(was, student.model.model(row).last_hidden_state, torch.ones_like(row, dtype=torch.bool)).item()

    minded = changed()
    monkeypatch.setattr(s07_opd, "keeper", lambda student: lambda slates: torch.zeros(()))
    assert 0 < minded < 0.5 * changed()


def test_no_trace_is_the_users_error(models, tmp_path):
    with pytest.raises(UserError, match="no trace was kept; raise"):
        s07_opd.opd(models[0], in_process(models[1].model), SLATES, (), OPD, SFT, 0, shop.work(tmp_path))


def test_another_tokenizer_is_the_users_error(models, tmp_path):
    other = shop.checkpoint()
    other.tokenizer.add_tokens(["<new>"])
    other.save(tmp_path)
    config = OPD.model_copy(update={"teacher": str(tmp_path)})
    with pytest.raises(UserError, match="has another tokenizer than the student"):
        s07_opd.meet(config, models[0], shop.corpus(60), shop.semantic_ids())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "itself", "objective": "forward_kl"}, "takes no student and no server"),
        ({"teacher": "itself", "student": MIDTRAIN.model_dump()}, "takes no student and no server"),
        ({"server": {"base_url": "http://h/v1", "model": "m"}}, "wants base_url, model and"),
        ({"teacher": "t", "server": {"base_url": "http://h/v1"}}, "wants base_url, model and"),
        (
            {"teacher": "t", "server": {"base_url": "http://h/v1", "model": "m"}, "objective": "forward_kl"},
            "wants the whole distribution",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        s07_opd.Config(**changes)


def complete(folder, digest) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {**SFT.model_dump(), "seed": 0} if digest == "06_sft" else {}
    (folder / "record.json").write_text(json.dumps({"digest": digest, "config": config}))


@pytest.fixture
def run(tmp_path):
    """Stages 1 to 5 on disk, without their contents."""
    for name in s07_opd.READS:
        complete(tmp_path / name, name)
    return tmp_path


def test_without_a_teacher_it_is_left_out(run):
    s07_opd.main(run, s07_opd.Config(), 0)
    assert read_json(run / "07_opd" / "record.json")["counts"] == {"left_out": True}
    assert [path.name for path in (run / "07_opd").iterdir()] == ["record.json"]


def test_from_files_a_smaller_student(run, models):
    small = shop.NANO.model_copy(update={"layers": 1})
    shop.corpus(60).save(run / "01_corpus")
    shop.semantic_ids().save(run / "02_sids")
    SLATES.save(run / "05_traces")
    TRACES.save(run / "05_traces")
    models[1].save(run / "big")
    complete(run / "big", "big")
    fit = FitConfig(steps=2, batch_size=2, learning_rate=1e-3)
    config = OPD.model_copy(
        update={
            "teacher": str(run / "big"),
            "student": MIDTRAIN.model_copy(update={"nano": small, "fit": fit}),
            "cold_steps": 1,
            "fit": fit,
        }
    )
    s07_opd.main(run, config, 0)
    record = read_json(run / "07_opd" / "record.json")
    assert record["inputs"]["teacher"] == "big"
    assert record["counts"]["parameters"] < models[1].model.num_parameters()
    assert (run / "07_opd" / "midtrained" / "model.safetensors").exists()


def test_words_weigh_as_in_the_runs_own_sft(run):
    heavy = {**SFT.model_dump(), "lambda_reasoning": 0.25, "seed": 0}
    (run / "06_sft" / "record.json").write_text(json.dumps({"digest": "06_sft", "config": heavy}))
    assert s07_opd.sft_config(run / "06_sft") == SFT.model_copy(update={"lambda_reasoning": 0.25})
