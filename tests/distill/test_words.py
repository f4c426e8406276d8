"""Smaller students that learn to write, on the made-up shop."""

import pytest
import shop
from test_study import FIT, write_run

from gr2.distill import words
from gr2.distill.students import Run
from gr2.distill.study import rows
from gr2.lm.nano import NanoConfig
from gr2.record import RECORD, read_json
from gr2.stages import s03_midtrain

HALF = NanoConfig(width=16, layers=1, head_width=8, feed=32, words=300, context=256)
MIDTRAIN = s03_midtrain.Config(nano=shop.NANO, base=False, history=5, k=shop.K, fit=FIT)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose teacher is a mid-trained model, as its students will be."""
    teacher = s03_midtrain.midtrain(shop.corpus(20), shop.semantic_ids(), MIDTRAIN, 0, shop.work(tmp_path / "m"))
    write_run(tmp_path, teacher, MIDTRAIN.model_dump())
    monkeypatch.setattr("gr2.distill.students.SHAPES", {"2": HALF})
    short = {
        name: of.model_copy(update={"cold_steps": 1, "rollouts": 2, "fit": FIT}) for name, of in words.METHODS.items()
    }
    monkeypatch.setattr(words, "METHODS", short)
    monkeypatch.setattr(Run, "vectors", None)
    return Run(run=tmp_path, out=tmp_path / "distilled-words")


def test_smaller_students_are_made_once_and_measured_beside_their_teacher(run):
    made = words.students(run)
    assert list(made) == ["sft-2", "opd-2"]
    parameters = {read_json(folder / RECORD)["counts"]["parameters"] for folder in made.values()}
    assert parameters == {run.checkpoint(run.out / "midtrained-2").model.num_parameters()}
    assert max(parameters) < run.checkpoint(run.run / "08_rl").model.num_parameters()
    times = {name: (folder / RECORD).stat().st_mtime for name, folder in made.items()}
    assert {name: (folder / RECORD).stat().st_mtime for name, folder in words.students(run).items()} == times
    table = {(row.row, row.metric): row.ours for row in rows(run, "t", made)}
    for name in ("teacher", *made):
        assert 0 <= table[name, "valid"] <= 1
        assert 0 <= table[name, "truth"] <= 1
    # A teacher that writes nothing valid has no gain to keep a share of.
    assert table["teacher", "R@1, written"] == table["incoming", "R@1, written"]
    assert not [metric for _, metric in table if metric.startswith("share")]
