"""Runs of real, tiny stages, loaded the way the real ones are."""

import shutil
import subprocess
import sys

import pytest

import gr2.stages
from gr2 import run as runs
from gr2.errors import UserError
from gr2.record import RECORD, is_complete, read_json, write_json

STAGE = '''"""Stage {n}: adds up what it reads. And more words.

Reads: {reads}."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gr2.record import digests_of, stage_folder

NAME = "{name}"
READS = {reads}


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    plus: int = 1
    log: Path | None = None

    teacher: Path | None = None

    def files(self):
        return {{"log": self.log}} if self.log else {{}}

    def elsewhere(self):
        return {{"teacher": self.teacher}} if self.teacher else {{}}


def main(run, config, seed):
    inputs = {{r: run / r for r in READS}} | config.elsewhere()
    with stage_folder(run / NAME, {{**config.model_dump(), "seed": seed}}, inputs) as work:
        half = work.path / "half.txt"
        half.write_text(half.read_text() + "again" if half.exists() else "once")
        if (run / "interrupt").exists():
            raise KeyboardInterrupt
        total = config.plus + sum(int((run / r / "total.txt").read_text()) for r in READS)
        (work.path / "total.txt").write_text(str(total))
        work.counts |= {{"total": total, **digests_of(config.files())}}
'''
TINY = {"s01_one": (), "s02_two": ("01_one",), "s03_three": ("01_one",), "s04_four": ("02_two",)}
ALL = tuple(TINY)
FOLDERS = {stage[1:] for stage in TINY}


@pytest.fixture(autouse=True)
def tiny_stages(tmp_path, monkeypatch):
    folder = tmp_path / "stages"
    folder.mkdir()
    for n, (stage, reads) in enumerate(TINY.items(), 1):
        (folder / f"{stage}.py").write_text(STAGE.format(n=n, name=stage[1:], reads=reads))
    monkeypatch.setattr(gr2.stages, "__path__", [str(folder)])
    monkeypatch.setattr(runs, "STAGES", ALL)
    runs.module_of.cache_clear()
    yield
    runs.module_of.cache_clear()
    for stage in TINY:
        sys.modules.pop(f"gr2.stages.{stage}", None)


@pytest.fixture
def run(tmp_path):
    return tmp_path / "runs" / "tiny"


def config(tmp_path, text=""):
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return runs.load_config(path)


def go(run, settings, stages=ALL, redo=()):
    runs.run_stages(run, settings, stages, redo)


def total(run, folder):
    return int((run / folder / "total.txt").read_text())


def complete(run):
    return {f.parent.name for f in run.glob(f"*/{RECORD}")}


def mark(run):
    """Leave a file in every complete stage, by which `kept` knows those that were not made again."""
    for name in complete(run):
        (run / name / "mark").touch()


def kept(run):
    return {f.parent.name for f in run.glob("*/mark")}


def test_stages_run_in_order(tmp_path, run):
    go(run, config(tmp_path, "[one]\nplus = 5\n[four]\nplus = 10\n"))
    assert [total(run, f) for f in ("01_one", "02_two", "03_three", "04_four")] == [5, 5 + 1, 5 + 1, 6 + 10]


def test_a_second_run_only_prints(tmp_path, run, capsys):
    go(run, config(tmp_path))
    mark(run)
    capsys.readouterr()
    go(run, config(tmp_path))
    assert kept(run) == FOLDERS
    assert capsys.readouterr().out.count("complete, skipped") == 4


def test_the_saved_config_makes_the_same_run(tmp_path, run):
    settings = config(tmp_path, "[run]\nseed = 4\n[two]\nplus = 3\n")
    go(run, settings)
    mark(run)
    again = runs.load_config(run / runs.CONFIG)
    assert again == settings
    go(run, again)
    assert kept(run) == FOLDERS


def test_until(tmp_path, run):
    go(run, config(tmp_path), ALL[:2])
    assert complete(run) == {"01_one", "02_two"}


def test_another_config_is_refused_before_anything_runs(tmp_path, run):
    go(run, config(tmp_path), ALL[:3])
    mark(run)
    with pytest.raises(UserError) as error:
        go(run, config(tmp_path, "[three]\nplus = 8\n"))
    assert str(error.value).startswith(f"{run / '03_three'}: made with another config or inputs (plus: 1 -> 8); ")
    assert "`--redo 03_three`" in str(error.value)
    assert kept(run) == {"01_one", "02_two", "03_three"}
    assert runs.load_config(run / runs.CONFIG) == config(tmp_path)


def test_another_seed_is_refused(tmp_path, run):
    go(run, config(tmp_path), ALL[:1])
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        go(run, config(tmp_path, "[run]\nseed = 1\n"))


def test_another_input_is_refused(tmp_path, run):
    go(run, config(tmp_path))
    record = read_json(run / "01_one" / RECORD)
    write_json(run / "01_one" / RECORD, {**record, "digest": "other"})
    with pytest.raises(UserError, match="another 01_one"):
        go(run, config(tmp_path))


def test_another_teacher_in_the_same_folder_is_refused(tmp_path, run):
    """A stage may read a folder of another run; where it is gone, it is not missed."""
    go(run.with_name("other"), config(tmp_path), ALL[:1])
    teacher = run.with_name("other") / "01_one"
    mine = config(tmp_path, f"[two]\nteacher = {str(teacher)!r}\n")
    go(run, mine)
    record = read_json(teacher / RECORD)
    write_json(teacher / RECORD, {**record, "digest": "made again"})
    with pytest.raises(UserError, match=r"02_two: made with another config or inputs \(another teacher\)"):
        go(run, mine)
    shutil.rmtree(teacher)
    go(run, mine)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("as it was")
    return path


def with_log(tmp_path, log):
    return config(tmp_path, f"[two]\nlog = {str(log)!r}\n")


def test_a_changed_data_file_of_the_same_name_is_refused(tmp_path, run, log):
    go(run, with_log(tmp_path, log))
    log.write_text("as it is")
    with pytest.raises(UserError, match=r"02_two: made with another config or inputs \(another .*log.csv\); "):
        go(run, with_log(tmp_path, log))
    log.write_text("as it was")
    mark(run)
    go(run, with_log(tmp_path, log))
    assert kept(run) == FOLDERS


def test_a_data_file_that_is_gone_or_was_never_recorded_stops_no_complete_stage(tmp_path, run, log):
    go(run, with_log(tmp_path, log))
    mark(run)
    log.unlink()
    go(run, with_log(tmp_path, log))
    log.write_text("as it is")
    record = read_json(run / "02_two" / RECORD)
    write_json(run / "02_two" / RECORD, {**record, "counts": {"total": record["counts"]["total"]}})
    go(run, with_log(tmp_path, log))
    assert kept(run) == FOLDERS


def test_a_data_file_that_cannot_be_read_is_told_before_anything_is_thrown_away(tmp_path, run, log):
    go(run, with_log(tmp_path, log))
    mark(run)
    log.unlink()
    for redo in ("s02_two", "s01_one"):
        with pytest.raises(UserError, match=r"log.csv: No such file or directory; bring it back, or mend \[two\] log"):
            go(run, with_log(tmp_path, log), redo=[redo])
    assert kept(run) == FOLDERS
    go(run, with_log(tmp_path, log), redo=["s03_three"])
    assert complete(run) == FOLDERS


def test_redo_makes_the_stage_and_its_readers_again(tmp_path, run):
    go(run, config(tmp_path))
    mark(run)
    go(run, config(tmp_path, "[two]\nplus = 7\n"), redo=["s02_two"])
    assert kept(run) == {"01_one", "03_three"}
    assert complete(run) == FOLDERS
    assert total(run, "04_four") == 1 + 7 + 1


def test_a_redo_that_is_killed_leaves_nothing_that_looks_complete(tmp_path, run, monkeypatch):
    """Not even a stage of which only the record is gone stands upon one that is not there."""
    go(run, config(tmp_path))

    def killed(folder, ignore_errors=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        go(run, config(tmp_path), redo=["s02_two"])
    assert complete(run) == {"01_one", "03_three"}


def test_downstream_goes_through_other_stages():
    assert runs.downstream(["s01_one"]) == set(TINY)
    assert runs.downstream(["s02_two"]) == {"s02_two", "s04_four"}
    assert runs.downstream([]) == set()


def test_ctrl_c_says_where_it_goes_on_and_what_was_done_is_kept(tmp_path, run, capsys):
    go(run, config(tmp_path), ALL[:1])
    (run / "interrupt").touch()
    with pytest.raises(KeyboardInterrupt):
        go(run, config(tmp_path))
    assert "stopped; run again to go on from 02_two" in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        go(run, config(tmp_path), redo=["s02_two"])
    assert "stopped; run again without --redo to go on from 02_two" in capsys.readouterr().out
    assert not is_complete(run / "02_two")
    (run / "interrupt").unlink()
    go(run, config(tmp_path))
    assert (run / "02_two" / "half.txt").read_text() == "onceagain"


def test_a_stage_without_its_input(tmp_path, run):
    with pytest.raises(UserError, match=r"01_one: not complete; run the stage that writes it first"):
        go(run, config(tmp_path), ["s02_two"])


def test_two_at_once_are_refused(tmp_path, run):
    with runs.locked(run), pytest.raises(UserError, match=r"process \d+ is running it"):
        go(run, config(tmp_path))
    go(run, config(tmp_path))


def test_the_lock_of_a_dead_process_does_not_count(tmp_path, run):
    code = f"import os, pathlib\nfrom gr2.run import locked\nwith locked(pathlib.Path({str(run)!r})): os._exit(1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    assert (run / runs.LOCK).read_text().strip().isdigit()
    go(run, config(tmp_path))


def test_a_run_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        go(tmp_path / "file", config(tmp_path))


def test_stages_are_named_in_three_ways():
    assert [runs.stage_named(text) for text in ("two", "02_two", "s02_two")] == ["s02_two"] * 3
    with pytest.raises(UserError, match="no stage 'thre'; did you mean '03_three'"):
        runs.stage_named("thre")


def test_about_is_the_first_sentence():
    assert runs.about("s01_one") == "Adds up what it reads"


def test_differences():
    old = {"a": 1, "deep": {"b": 2, "c": 3}, "gone": 0}
    new = {"a": 1, "deep": {"b": 5, "c": 3}, "new": [1]}
    assert runs.differences(old, new) == ["deep.b: 2 -> 5", "gone: 0 -> None", "new: None -> [1]"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4.23, "4.2 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (3599.9, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_duration(seconds, words):
    assert runs.duration(seconds) == words
