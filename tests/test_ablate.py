"""Ablations of four real, tiny stages (those of test_run): the plan, what is shared and made, going on after a stop."""

import shutil

import pytest
from test_run import complete, kept, mark, tiny_stages, total  # noqa: F401  (the stages are a fixture)

from gr2 import ablate as ablation
from gr2 import run as runs
from gr2.errors import UserError
from gr2.record import RECORD, read_json, write_json

CONFIG = """
[run]
name = "tiny"

[one]
plus = 5

[ablate]
seeds = [0, 3]

[ablate.second.two]
plus = 0

[ablate.third.three]
plus = 7
"""
FOLDERS = {"second-0", "second-3", "third-0", "third-3"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.console, "width", 200)
    return tmp_path / "runs"


def plan(tmp_path, text=CONFIG):
    (tmp_path / "tiny.toml").write_text(text)
    return ablation.load_plan(tmp_path / "tiny.toml")


def go(tmp_path, text=CONFIG, only=()):
    return ablation.ablate(plan(tmp_path, text), tmp_path / "runs", only)


def test_a_plan_lays_a_component_over_the_full_run(tmp_path):
    made = plan(tmp_path)
    assert (made.full.name, made.full.seed, made.seeds) == ("tiny", 0, (0, 3))
    plus = {
        name: [config.tables[t].plus for t in ("one", "two", "three", "four")] for name, config in made.without.items()
    }
    assert plus == {"second": [5, 0, 1, 1], "third": [5, 1, 7, 1]}
    assert made.redone("second") == {"s02_two", "s04_four"}
    assert made.redone("third") == {"s03_three"}


def test_three_seeds_where_none_are_named(tmp_path):
    assert plan(tmp_path, CONFIG.replace("seeds = [0, 3]", "")).seeds == (0, 1, 2)


def test_a_run_is_made_as_if_there_were_no_ablate_table(tmp_path):
    plan(tmp_path)
    config = runs.load_config(tmp_path / "tiny.toml")
    assert config.tables["one"].plus == 5
    assert config.tables.keys() == {"one", "two", "three", "four"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[ablate.second.two]", "[ablate.second.tow]", "[ablate.second]: unknown table [tow]; did you mean 'two'?"),
        ("plus = 0", "pluss = 0", "[ablate.second]: [two] unknown key 'pluss'; did you mean 'plus'?"),
        ("plus = 0", 'plus = "much"', '[ablate.second]: [two] plus = "much": Input should be a valid integer'),
        ("plus = 0", "plus = 1", "[ablate.second]: changes nothing"),
        ("[ablate.second.two]", "[ablate.second.run]", "[ablate.second]: [run] stays the same in every run"),
        ("[ablate.second.two]", "[ablate.second]", "[ablate.second]: 'plus' stands outside of a table"),
        ("[ablate.second.two]", '[ablate."../up".two]', "'../up' names a folder; use letters"),
        ("seeds = [0, 3]", "seed = [0]", "[ablate] unknown key 'seed'; did you mean 'seeds'?"),
        ("seeds = [0, 3]", "seeds = [0, 0]", "a seed stands there twice"),
        ("seeds = [0, 3]", "seeds = [-1]", "[ablate.seeds] 0 = -1"),
        ("seeds = [0, 3]", "seeds = []", "[ablate] seeds = []"),
        ("[ablate", "[abblate", "unknown table [abblate]"),
        (CONFIG, "[ablate]\nseeds = [0]", "no component in [ablate]"),
        (CONFIG, "", "no component in [ablate]"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, old, new, words):
    with pytest.raises(UserError) as error:
        plan(tmp_path, CONFIG.replace(old, new))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_component_is_one_line_before_anything_runs(tmp_path, home):
    with pytest.raises(UserError, match=r"no component 'secnd' in \[ablate\]; did you mean 'second'"):
        go(tmp_path, only=["secnd"])
    assert not home.exists()


def test_only_what_the_component_touches_is_made(tmp_path, home):
    finished = go(tmp_path)
    assert {run.name for run in (home / "tiny-ablate").iterdir()} == FOLDERS
    assert finished == {name: [home / "tiny-ablate" / f"{name}-{s}" for s in (0, 3)] for name in ("second", "third")}
    for seed, full in ((0, home / "tiny"), (3, home / "tiny-3")):
        second, third = (home / "tiny-ablate" / f"{name}-{seed}" for name in ("second", "third"))
        # one = 5; two = one + its plus; three = one + its plus; four = two + 1
        assert [total(full, f) for f in ("01_one", "02_two", "03_three", "04_four")] == [5, 5 + 1, 5 + 1, 6 + 1]
        assert [total(second, f) for f in ("01_one", "02_two", "03_three", "04_four")] == [5, 5 + 0, 5 + 1, 5 + 1]
        assert [total(third, f) for f in ("01_one", "02_two", "03_three", "04_four")] == [5, 5 + 1, 5 + 7, 6 + 1]
        for run, redone in ((second, {"02_two", "04_four"}), (third, {"03_three"})):
            own = {name for name in complete(run) if not (run / name / RECORD).samefile(full / name / RECORD)}
            assert own == redone
        assert read_json(second / "02_two" / RECORD)["config"]["seed"] == seed


def test_a_component_run_is_a_run_like_any_other(tmp_path, home):
    go(tmp_path)
    folder = home / "tiny-ablate" / "second-3"
    config = runs.load_config(folder / runs.CONFIG)
    assert (config.name, config.seed, config.tables["two"].plus) == ("second-3", 3, 0)
    runs.run_stages(folder, config, [runs.stage_named(t) for t in config.tables], [])


def test_a_second_call_makes_nothing(tmp_path, home, capsys):
    go(tmp_path)
    for run in (home / "tiny-ablate").iterdir():
        mark(run)
    capsys.readouterr()
    go(tmp_path)
    assert all(kept(run) == complete(run) for run in (home / "tiny-ablate").iterdir())
    assert capsys.readouterr().out.count("): complete, skipped") == len(FOLDERS)


def test_only_one_component(tmp_path, home):
    assert go(tmp_path, only=["third"]).keys() == {"third"}
    assert {run.name for run in (home / "tiny-ablate").iterdir()} == {"third-0", "third-3"}
    assert go(tmp_path, only=["second"]).keys() == {"second", "third"}


def test_ctrl_c_leaves_what_is_done_and_the_next_call_goes_on(tmp_path, home, capsys):
    stopped = home / "tiny-ablate" / "second-3"
    stopped.mkdir(parents=True)
    (stopped / "interrupt").touch()
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path)
    assert "stopped; run again to go on from 02_two" in capsys.readouterr().out
    assert complete(home / "tiny-ablate" / "second-0") == {"01_one", "02_two", "03_three", "04_four"}
    assert complete(stopped) == {"01_one", "03_three"}
    (stopped / "interrupt").unlink()
    mark(home / "tiny-ablate" / "second-0")
    assert go(tmp_path).keys() == {"second", "third"}
    assert kept(home / "tiny-ablate" / "second-0") == {"01_one", "02_two", "03_three", "04_four"}
    assert (stopped / "02_two" / "half.txt").read_text() == "onceagain"


def test_the_time_left_is_the_full_runs_time_for_what_is_still_to_make(tmp_path, home):
    go(tmp_path, only=["third"])
    for name, seconds in (("02_two", 20.0), ("03_three", 300.0), ("04_four", 4.0)):
        path = home / "tiny" / name / RECORD
        path.write_text(path.read_text().replace(f'"seconds": {read_json(path)["seconds"]}', f'"seconds": {seconds}'))
    left = {job.folder.name: job.seconds_left() for job in plan(tmp_path).jobs(home) if job.config.seed == 0}
    assert left == {"second-0": 20 + 4, "third-0": 0}


def test_another_ablation_or_full_run_is_refused_before_anything_runs(tmp_path, home):
    go(tmp_path)
    with pytest.raises(
        UserError, match=r"second-0/02_two: made for another ablation \(plus: 0 -> 9\); delete .*second-0"
    ):
        go(tmp_path, CONFIG.replace("plus = 0", "plus = 9"))
    with pytest.raises(UserError, match=r"tiny/01_one: made with another config"):
        go(tmp_path, CONFIG.replace("plus = 5", "plus = 6"))
    assert complete(home / "tiny") == {"01_one", "02_two", "03_three", "04_four"}


def test_a_full_run_made_again_with_other_outcome_is_noticed(tmp_path, home):
    go(tmp_path)
    full = home / "tiny" / "03_three"
    record = read_json(full / RECORD)
    write_json(full / RECORD, {**record, "digest": "other"})  # a new file; the run without a component links the old
    with pytest.raises(UserError, match=r"second-0/03_three: made for another ablation \(another .*tiny/03_three\)"):
        go(tmp_path)


def test_a_spoilt_stage_is_not_taken(tmp_path, home):
    go(tmp_path, only=["third"])
    (home / "tiny" / "03_three" / "total.txt").write_text("7")
    with pytest.raises(UserError, match=r"tiny/03_three: changed since it was made; .*`--redo 03_three`"):
        go(tmp_path)
    assert not (home / "tiny-ablate" / "second-0" / "03_three").exists()


def test_without_hard_links_stages_are_copied(tmp_path, home, monkeypatch):
    def refused(*_):
        raise OSError

    monkeypatch.setattr(ablation.os, "link", refused)
    go(tmp_path)
    copied, source = (home / run / "01_one" / "total.txt" for run in ("tiny-ablate/second-0", "tiny"))
    assert copied.read_text() == source.read_text()
    assert not copied.samefile(source)


def test_a_deleted_run_is_made_again_and_the_full_run_stays(tmp_path, home):
    go(tmp_path)
    shutil.rmtree(home / "tiny-ablate" / "second-0")
    assert total(home / "tiny", "01_one") == 5
    assert go(tmp_path).keys() == {"second", "third"}
