"""Rejection and targeted sampling on hand-made attempts and on the made-up cinema."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cinema import cinema, slate

from gr2.teach.evidence import KINDS
from gr2.teach.rationale import lexicon
from gr2.teach.rows import as_rows
from gr2.teach.sampling import Attempts, bucket, draw, led_by, rank, rejection, targeted
from gr2.teach.teacher import Opinions, opine
from gr2.types import AnswerStatus, Item, Split

ITEMS = tuple(Item(item_id=i, title=f"Film {i}") for i in "abcd")
WORDS = lexicon(ITEMS)


def opinions(*targets: int) -> Opinions:
    """A teacher who likes d, then c, b and a, by co-visits alone."""
    slates = tuple(slate(f"u{i}", "", "abcd", target) for i, target in enumerate(targets))
    strengths = np.zeros((len(slates), 4, len(KINDS)))
    strengths[:, :, KINDS.index("popular")] = [-1.5, -0.5, 0.5, 1.5]
    rows = as_rows(slates, {i.item_id: row for row, i in enumerate(ITEMS)}, {}, 30)
    return Opinions(
        slates=slates,
        rows=rows,
        strengths=strengths,
        totals=strengths.sum(2),
        links=np.zeros((len(slates), 4, 1), np.float32),
    )


def picks(*rows: list[int]) -> Attempts:
    table = np.array(rows)
    return Attempts(picks=table, emphasis=np.ones((*table.shape, len(KINDS))))


def test_the_first_attempt_that_finds_the_target_is_kept_alone() -> None:
    traces, refusals = rejection(WORDS, opinions(1), picks([3], [1], [1]), 30)
    assert [(t.kept, t.attempt, t.order, t.reason) for t in traces] == [
        (True, 1, (1, 3, 2, 0), "target ranked 1st, incoming 2-3")
    ]
    assert refusals == {"target ranked 3rd, incoming 2-3": 1}


def test_a_slate_whose_target_is_never_found_keeps_its_last_attempt_as_refused() -> None:
    """Target a is the teacher's last; with c moved to the head it is 4th still."""
    traces, refusals = rejection(WORDS, opinions(0), picks([3], [2]), 30)
    assert [(t.kept, t.attempt, t.order, t.reason) for t in traces] == [
        (False, 1, (2, 3, 1, 0), "target ranked 4th, incoming 1")
    ]
    assert refusals == {"target ranked 4th, incoming 1": 2}


def test_slates_are_tried_apart() -> None:
    traces, _ = rejection(WORDS, opinions(3, 2, 0), picks([3, 3, 3], [0, 2, 1]), 30)
    assert [(t.slate_id, t.kept, t.attempt) for t in traces] == [
        ("u0:0", True, 0),
        ("u1:0", True, 1),
        ("u2:0", False, 1),
    ]


def test_targeted_traces_lead_with_the_target() -> None:
    traces = targeted(WORDS, opinions(0, 3), 30)
    assert [(t.kept, t.order) for t in traces] == [(True, (0, 3, 2, 1)), (True, (3, 2, 1, 0))]
    assert traces[0].reason == "shown the target, incoming 1"


def test_the_plain_ranking() -> None:
    (ranking,) = rank(WORDS, opinions(0), 30)
    assert (ranking.order, ranking.status) == ((3, 2, 1, 0), AnswerStatus.VALID)
    assert ranking.thought == "popular -> [c4]"


@pytest.mark.parametrize(
    ("target", "name"), [(0, "1"), (1, "2-3"), (2, "2-3"), (3, "4-6"), (5, "4-6"), (6, "7+"), (9, "7+")]
)
def test_bucket(target: int, name: str) -> None:
    assert bucket(slate("u", "", "abcdefghij", target)) == name


def test_led_by() -> None:
    assert led_by(2, (0, 1, 2, 3)) == (2, 0, 1, 3)


def test_the_first_attempt_is_plain_and_later_ones_stress_one_kind_that_speaks() -> None:
    tried = draw(opinions(*[0] * 50), 4, emphasis=3.0, temperature=1.0, seed=0)
    assert tried.picks.shape == (4, 50)
    assert (tried.picks[0] == 3).all()
    assert (tried.emphasis[0] == 1).all()
    assert (tried.emphasis[1:, :, KINDS.index("popular")] == 3).all()
    assert (tried.emphasis[1:].sum(2) == 3 + len(KINDS) - 1).all()


def test_who_hears_the_advice_judges_by_it_and_stresses_evidence_beside_it() -> None:
    """Advice -1, 2, 0, 0 and strengths -1.5, -.5, .5, 1.5: b leads, and with these strengths thrice d does, since
    0 + 2 * 1.5 > 2 - 2 * .5."""
    judged = opinions(0)
    heard = replace(judged, slates=(replace(judged.slates[0], advice=(-1.0, 2.0, 0.0, 0.0)),)).hearing()
    assert heard.orders == ((1, 2, 3, 0),)
    tried = draw(heard, 2, emphasis=3.0, temperature=0.0, seed=0)
    assert tried.picks.tolist() == [[1], [3]]


def test_noise_of_temperature_one_draws_from_the_softmax() -> None:
    """Strengths -1.5, -0.5, 0.5, 1.5 unstressed: the best is picked with e^1.5 / sum e^x."""
    tried = draw(opinions(*[0] * 2000), 3, emphasis=1.0, temperature=1.0, seed=0)
    expected = np.exp(1.5) / np.exp([-1.5, -0.5, 0.5, 1.5]).sum()
    assert (tried.picks[1:] == 3).mean() == pytest.approx(expected, abs=0.03)


def test_without_noise_and_stress_every_attempt_is_the_first() -> None:
    judged = opine(*_cinema(), 3, 0)
    tried = draw(judged, 3, emphasis=1.0, temperature=0.0, seed=0)
    assert (tried.picks == tried.picks[0]).all()
    assert tried.picks[0].tolist() == [order[0] for order in judged.orders]


def test_padding_is_never_picked() -> None:
    slates = (slate("u0", "", "abcd", 0), slate("u1", "", "ab", 0))
    rows = as_rows(slates, {i.item_id: row for row, i in enumerate(ITEMS)}, {}, 30)
    silent = np.zeros((2, 4, len(KINDS)))
    judged = Opinions(slates=slates, rows=rows, strengths=silent, totals=silent[:, :, 0], links=np.zeros((2, 4, 1)))
    assert draw(judged, 50, 3.0, 5.0, 0).picks[:, 1].max() == 1
    assert judged.orders == ((0, 1, 2, 3), (0, 1))


def test_traces_of_the_cinema_hold_together() -> None:
    corpus, slates = _cinema()
    training = opine(corpus, slates, 3, 0).of(Split.TRAIN)
    words = lexicon(corpus.items)
    traces, _ = rejection(words, training, draw(training, 4, 3.0, 0.5, 0), 5)
    assert [t.slate_id for t in traces] == [s.slate_id for s in training.slates]
    for trace, s in zip(traces, training.slates, strict=True):
        assert trace.kept == (trace.order[0] == s.target)
        assert sorted(trace.order) == list(range(len(s.candidates)))
        assert re.search(r"-> \[c(\d+)\]", trace.thought).group(1) == str(trace.order[0] + 1)
        assert f"; {trace.evidence} " in trace.thought
        assert all(1 <= int(n) <= min(5, len(s.history)) for n in re.findall(r"\[h(\d+)\]", trace.thought))


def _cinema() -> tuple:
    corpus, slates = cinema()
    return corpus, slates.slates
