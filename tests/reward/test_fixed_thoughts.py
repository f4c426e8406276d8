"""Policies that do not look at the person, against a teacher that does."""

import pytest
from test_truth import RENDERER, SLATE, WITNESS

from gr2.reward.fixed_thoughts import fixed, markdown, try_thoughts
from gr2.types import Trace

TRACES = [
    Trace(
        slate_id=SLATE.slate_id,
        thought="likes sci-fi horror 1980s ; next action 1980s ; co-visits [h2] -> [c1]",
        order=(0, 1, 2),
        evidence="co-visits",
        attempt=0,
        kept=True,
        reason="",
    )
]
GENRES = WITNESS.words.genres


def test_what_policies_are_paid_by_hand() -> None:
    """The newest event is Dune: of the catalogue's four genres none tells Aliens, and nobody saw both."""
    tried = try_thoughts(WITNESS, {SLATE.slate_id: SLATE}, TRACES, GENRES)
    assert tried["the teacher"] == {"likes": 1, "next": 1, "reason": 1, "total": 1}
    assert set(tried["nothing"].values()) == {0}
    same = tried["the same to all, `genre` of the newest"]
    assert same == pytest.approx({"likes": 1, "next": 1, "reason": 0, "total": 2 / 3})
    everything = tried["every genre, `genre` of the newest"]
    assert everything == pytest.approx({"likes": 2 / 4, "next": 2 / 4, "reason": 0, "total": 1 / 3})


def test_somebody_elses_thought_cites_what_is_there() -> None:
    thought = fixed(TRACES, GENRES)["the teacher, about somebody else"](TRACES[0])
    assert thought == "likes sci-fi horror 1980s ; next action 1980s ; co-visits [h1] -> [c1]"
    assert RENDERER.thought(SLATE, thought).endswith(f"co-visits {RENDERER.sid('d')} -> <c_1>")


def test_the_table_has_a_line_a_policy() -> None:
    lines = list(markdown(try_thoughts(WITNESS, {SLATE.slate_id: SLATE}, TRACES, GENRES)))
    assert lines[:3] == [
        "| says | likes | next | reason | total |",
        "|---|---|---|---|---|",
        "| the teacher | 1.00 | 1.00 | 1.00 | 1.00 |",
    ]
    assert len(lines) == 2 + len(fixed(TRACES, GENRES))
