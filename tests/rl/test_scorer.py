"""Rollouts: scored, kept, counted, read again."""

import json

import pytest
import shop
import torch

from gr2.errors import UserError
from gr2.reward.forms import reward_form
from gr2.reward.truth import Truth
from gr2.rl.rollouts import Rollout, Scorer, probes, read_rollouts
from gr2.rl.shown import shown_as
from gr2.types import AnswerStatus, Split

SLATE = shop.all_slates(1, 1).split(Split.TRAIN)[0]
WORDS = {1: "a</think><c_1><c_2><c_3><c_4><|end|>", 2: "b</think><c_4><c_1><c_2><c_3><|end|>", 3: "c"}


def scorer(file, places=(0, 1, 2, 3)) -> Scorer:
    return Scorer(
        lambda tokens: WORDS[tokens[0]],
        {SLATE.slate_id: SLATE},
        lambda slate: places,
        reward_form("conditional", 0.2),
        lambda tokens: -0.25 * (tokens > 2),
        file,
    )


def test_rows_have_their_parts_and_advantages(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    one = scorer(file)
    promoted = (SLATE.target - [3, 0, 1, 2].index(SLATE.target)) / 4
    total = promoted + (0.2 if promoted > 0 else 0.0) - 0.25
    stays = 0.2 if SLATE.target == 0 else 0.0
    assert one.score([[1], [2, 0, 0], [3]], [SLATE.slate_id] * 3) == pytest.approx([stays, total, -1.0])
    one.keep(torch.tensor([0.5, 1.0, -1.5]))
    rows = read_rollouts(file)
    assert [r.advantage for r in rows] == [0.5, 1.0, -1.5]
    assert rows[1] == Rollout(
        step=0,
        slate_id=SLATE.slate_id,
        places=(0, 1, 2, 3),
        text=WORDS[2],
        status=AnswerStatus.VALID,
        order=(3, 0, 1, 2),
        reward=pytest.approx(total),
        rank=promoted,
        format=1.0,
        overlong=-0.25,
        advantage=1.0,
    )
    assert rows[2].status is AnswerStatus.NO_THOUGHT_END


def test_the_reward_is_about_the_order_that_came_in(tmp_path):
    """Shown with the target first, naming it first is a promotion, and the labels as shown are kept."""
    places = (SLATE.target, *(c for c in range(4) if c != SLATE.target))
    one = scorer(tmp_path / "r.jsonl", places)
    (row,) = [one.row([1], SLATE, step=4)]
    assert row["order"] == (0, 1, 2, 3)
    assert row["rank"] == SLATE.target / 4
    assert row["step"] == 4


def test_probes_by_hand(tmp_path):
    one = scorer(tmp_path / "r.jsonl")
    one.score([[1], [1], [2], [3]], [SLATE.slate_id] * 4)
    one.keep(torch.zeros(4))
    found = one.take_probes()
    assert found["valid_share"] == found["format"] == 3 / 4
    assert found["echo_share"] == round(2 / 3, 4)
    assert found["first_from"] == [round(2 / 3, 4), 0, 0, round(1 / 3, 4)]
    assert probes([]) == one.take_probes()  # taken once


def test_what_is_no_rollouts_file_is_the_users_error(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    with pytest.raises(UserError, match="not there"):
        read_rollouts(file)
    file.write_text(json.dumps({"step": 0, "slate_id": "u:1", "text": "", "status": "valid", "reward": 0.0}) + "\n")
    with pytest.raises(UserError, match="another version of gr2; make it again"):
        read_rollouts(file)


def test_thoughts_are_checked_as_they_were_shown_and_credited(tmp_path):
    """Two steps of two tokens, of which the second rollout's first is true; then an arrow and the answer."""
    places = (1, 0, 2, 3)
    words = {1: "likes", 2: " ;", 3: "next", 4: " ->", 5: "</think>"}
    asked = []

    def check(slates, thoughts):
        asked.extend(zip(slates, thoughts, strict=True))
        return [
            Truth(steps=(value, 0.5), likes=value, next=0.5, reason=0.0, total=(value + 0.5) / 3)
            for value in (0.0, 1.0)
        ]

    one = Scorer(
        lambda tokens: "".join(words[t] for t in tokens),
        {SLATE.slate_id: SLATE},
        lambda slate: places,
        reward_form("conditional", 0.2),
        lambda tokens: 0.0,
        tmp_path / "r.jsonl",
        check,
    )
    one.score([[1, 2, 3, 4, 5], [1, 2, 3, 4]], [SLATE.slate_id] * 2)
    assert asked == [(shown_as(SLATE, places), "likes ;next ->")] * 2
    credit = one.credit(6, group=2)
    size = 2**-0.5
    expected = torch.tensor([[-size, -size, 0, 0, 0, 0], [size, size, 0, 0, 0, 0]])
    torch.testing.assert_close(credit, expected, atol=1e-3, rtol=0)
    one.keep(torch.zeros(2))
    assert [r.truth for r in read_rollouts(tmp_path / "r.jsonl")] == [0.1667, 0.5]
    assert one.take_probes()["truth"] == 0.3333
