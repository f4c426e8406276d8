"""`gr2 rollouts` prints what the file says, with titles for ids."""

import json

import pytest
import shop

from gr2 import rollouts
from gr2.errors import UserError
from gr2.record import RECORD, write_json
from gr2.reward.forms import reward_form
from gr2.rl.rollouts import Scorer
from gr2.rl.shown import random_places
from gr2.types import Split

SLATES = shop.all_slates(3, 1)
FIRST, SECOND, _ = SLATES.split(Split.TRAIN)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Two steps of made-up rollouts, the first slate shown as it came, the second shuffled."""
    for folder, thing in (("01_corpus", shop.corpus()), ("02_sids", shop.semantic_ids()), ("05_traces", SLATES)):
        (tmp_path / folder).mkdir()
        thing.save(tmp_path / folder)
    (tmp_path / "08_rl").mkdir()
    write_json(tmp_path / "05_traces" / RECORD, {"digest": "abc"})
    write_json(tmp_path / "08_rl" / RECORD, {"inputs": {"05_traces": "abc"}})
    spelled = "<s_a_0><s_b_1>"
    words = [f"likes {spelled}</think><c_2><c_1><c_3><c_4><|end|>", "hm</think><c_1><c_1>", "hm</think><c_1><c_1>"]
    for step, slate, places in ((0, FIRST, (0, 1, 2, 3)), (1, SECOND, random_places(SECOND, 0))):
        scorer = Scorer(
            lambda tokens: words[tokens[0]],
            SLATES.by_id,
            lambda _, places=places: places,
            reward_form("gain", 0.2),
            lambda tokens: 0.0,
            tmp_path / "08_rl" / "rollouts.jsonl",
        )
        rows = [{**scorer.row([i], slate, step), "advantage": a} for i, a in enumerate((1.5, -0.75, -0.75))]
        with scorer.file.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setattr(rollouts.console, "width", 120)
    return tmp_path


def test_a_slate_is_told(run, capsys):
    rollouts.show_rollouts(run, None, FIRST.slate_id)
    told = capsys.readouterr().out
    target = shop.items()[[i.item_id for i in shop.items()].index(FIRST.candidates[FIRST.target])].title
    assert f"step 0, slate {FIRST.slate_id}, 3 rollouts" in told
    assert f"{target} ◂ target" in told
    assert "advantage +1.50, valid" in told
    assert "answer  2 1 3 4" in told
    assert told.count("reward -1.000 (rank +0.000, format 0, overlong 0.00), advantage -0.75, duplicate") == 1
    assert "(written 2 times)" in told
    assert "came in at" not in told


def test_shuffled_candidates_are_told_as_shown(run, capsys):
    rollouts.show_rollouts(run, 1, None)
    told = capsys.readouterr().out
    places = random_places(SECOND, 0)
    assert told.count("came in at") == sum(place != i for i, place in enumerate(places))
    assert f"  1  {SECOND.slate_id}" in told  # the step's slates


def test_an_overview_of_steps(run, capsys):
    rollouts.show_rollouts(run, None, None)
    told = capsys.readouterr().out
    assert [line.split()[:2] for line in told.splitlines()[1:3]] == [["0", "3"], ["1", "3"]]
    assert told.count("3 rollouts") == 1


@pytest.mark.parametrize(("step", "slate", "says"), [(7, None, "steps go from 0 to 1"), (1, "x", "step 1 has slates")])
def test_nothing_there_is_the_users_error(run, step, slate, says):
    with pytest.raises(UserError, match=says):
        rollouts.show_rollouts(run, step, slate)


def test_rollouts_about_other_slates_are_the_users_error(run):
    write_json(run / "05_traces" / RECORD, {"digest": "def"})
    with pytest.raises(UserError, match="08_rl: made before 05_traces was made again"):
        rollouts.show_rollouts(run, None, None)
