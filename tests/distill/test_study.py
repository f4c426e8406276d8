"""The study from files, on the made-up shop: every student once, and what the table says of models that are known."""

import pytest
import shop

from gr2.artifacts import Slates, Traces
from gr2.distill import study
from gr2.distill.students import Run
from gr2.errors import UserError
from gr2.lm.train import FitConfig
from gr2.record import RECORD, read_json, stage_folder
from gr2.stages import s06_sft, s07_opd
from gr2.types import Split

SLATES = Slates(slates=(*shop.slates(12, Split.TRAIN), *shop.slates(6, Split.TEST)))
FIT = FitConfig(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1)


def write_run(folder, model, config):
    """What students are taught from: a run whose model is the same after mid-training and RL, each stage with this
    config."""
    stages = {
        "01_corpus": shop.corpus(20),
        "02_sids": shop.semantic_ids(),
        "03_midtrain": model,
        "05_traces": Traces(traces=tuple(map(shop.oracle, SLATES.split(Split.TRAIN)))),
        "08_rl": model,
        "10_direct": SLATES,
    }
    for name, artifact in stages.items():
        with stage_folder(folder / name, {**config, "seed": 0}, {}) as work:
            artifact.save(work.path)
            if name == "05_traces":
                SLATES.save(work.path)
    with stage_folder(folder / "06_sft", {**s06_sft.Config(fit=FIT).model_dump(), "seed": 0}, {}):
        pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The run, the students' folders and the table's rows."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, shop.checkpoint(), {})
    run = Run(run=folder, out=folder / "opd-study")
    with pytest.MonkeyPatch.context() as patch:
        opd = s07_opd.Config.model_validate({"cold_steps": 1, "rollouts": 2, "valid_slates": 0, "fit": FIT})
        methods = {name: opd.model_copy(update={"objective": of.objective}) for name, of in study.METHODS.items()}
        patch.setattr(study, "METHODS", methods)
        patch.setattr(study, "TRACES", (2, 100, None))
        students = study.students(run)
        times = {name: (path / "record.json").stat().st_mtime for name, path in students.items()}
        assert study.students(run) == students
    assert times == {name: (path / "record.json").stat().st_mtime for name, path in students.items()}
    return run, students, {(row.row, row.metric): row for row in study.rows(run, "t", students)}


def test_a_student_for_every_method_and_number_of_traces_that_there_are(made):
    methods = ("sft", "forward kl", "reverse kl", "opd")
    assert list(made[1]) == [f"{method}, {n} traces" for n in (2, 12) for method in methods]
    objectives = [read_json(folder / RECORD)["config"]["objective"] for folder in made[1].values()]
    assert objectives == 2 * ["sft", "forward_kl", "reverse_kl", "opd"]


def test_the_incoming_order_and_the_teacher_are_what_they_are(made):
    _, _, rows = made
    firsts = [s.target == 0 for s in SLATES.split(Split.TEST)]
    assert rows["incoming", "R@1, written"].ours == pytest.approx(sum(firsts) / len(firsts))
    assert rows["teacher", "reverse KL a token"].ours == pytest.approx(0, abs=1e-5)
    assert rows["teacher", "nats an item"].ours == rows["mid-trained", "nats an item"].ours  # here the same weights


def test_students_have_moved_and_their_time_was_taken(made):
    _, students, rows = made
    for name in students:
        assert rows[name, "nats an item"].ours != rows["teacher", "nats an item"].ours
        assert rows[name, "reverse KL a token"].ours != 0
        assert rows[name, "CPU seconds"].ours > 0
        assert 0 <= rows[name, "distinct thoughts"].ours <= 1


def test_a_student_of_another_config_is_refused(made, monkeypatch):
    monkeypatch.setattr(study, "TRACES", (2,))
    with pytest.raises(UserError, match="made with another config or inputs; delete it"):
        study.students(made[0])
