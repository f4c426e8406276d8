"""The table of thinking distilled away, by hand on four made-up slates."""

import numpy as np
import pytest
import shop

from gr2.distill.compare import BEFORE, CUT_OFF, DIRECT, THINKING, WRITE_AT_ONCE, Contestant, rows, timed
from gr2.distill.students import Run
from gr2.types import AnswerStatus, Ranking, Split

VALID, TEST = shop.slates(4, Split.VALID), shop.slates(4, Split.TEST)


class Slates:
    """A run whose slates are all that is asked for."""

    def split(self, split):
        return VALID if split is Split.VALID else TEST


def contestant(name, hits) -> Contestant:
    """Puts the target first on test slates where `hits`, else last, and first on all validation slates."""

    def ranking(slate, hit):
        others = [c for c in range(shop.K) if c != slate.target]
        order = (slate.target, *others) if hit else (*others, slate.target)
        return Ranking(slate_id=slate.slate_id, order=order)

    return Contestant(
        name=name,
        parameters=8.0,
        valid=[ranking(s, True) for s in VALID],
        test=[ranking(s, hit) for s, hit in zip(TEST, hits, strict=True)],
        tokens=np.array([3, 5, 4, 4]),
        milliseconds=(1.0, 2.0, 4.0),
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    run = Run(run=tmp_path_factory.mktemp("run"), out=tmp_path_factory.mktemp("out"))
    object.__setattr__(run, "slates", Slates())
    models = [
        contestant(THINKING, [True, False, False, False]),
        contestant(BEFORE, [True, True, False, False]),
        contestant(CUT_OFF, [True, False, True, False]),
        contestant(DIRECT, [True, True, True, True]),
        contestant("small", [True, True, True, False]),
    ]
    return {(row.table, row.row, row.metric): row for row in rows(run, "t", models)}


def test_values_and_costs(table):
    assert table["t", "small", "R@1"].ours == 3 / 4
    assert table["t", "small", "R@1, validation"].ours == 1
    assert table["t", "small", "tokens"].ours == 4
    assert table["t", "small", "parameters"].ours == 8
    cost = table["t", "small", "milliseconds"]
    assert (cost.low, cost.ours, cost.high) == (1, 2, 4)


def test_the_hard_slates_are_those_where_the_thought_cut_off_names_another_first(table):
    """The second and the third."""
    hard = {name: table["t", name, "R@1, hard"] for name in (THINKING, BEFORE, CUT_OFF, DIRECT)}
    assert {name: (row.ours, row.n) for name, row in hard.items()} == {
        THINKING: (0, 2),
        BEFORE: (1 / 2, 2),
        CUT_OFF: (1 / 2, 2),
        DIRECT: (1, 2),
    }


def test_differences_are_paired(table):
    assert table["t-differences", "small", "R@1 less thinking"].ours == 3 / 4 - 1 / 4
    assert table["t-differences", "small", "R@1 less direct"].ours == 3 / 4 - 1
    assert table["t-differences", "small", "R@1 less thinking, hard"].ours == 1 - 0
    assert ("t-differences", DIRECT, "R@1 less direct") not in table


def test_the_share_of_the_gain(table):
    incoming = table["t", "incoming", "R@1"].ours
    kept = table["t-differences", "small", "share of direct's gain, R@1"].ours
    assert incoming == sum(s.target == 0 for s in TEST) / 4
    assert kept == pytest.approx((3 / 4 - incoming) / (1 - incoming))


def test_every_call_is_of_one_slate():
    calls = []
    low, middle, high = timed(lambda slates: calls.append(len(slates)), TEST)
    assert calls == [1] * 5  # the first one is not timed
    assert 0 <= low <= middle <= high


def test_a_thought_cut_off_is_written_as_an_answer_alone():
    checkpoint = shop.checkpoint()
    rankings = WRITE_AT_ONCE.rank(checkpoint, TEST, None)
    assert {r.status for r in rankings} == {AnswerStatus.VALID}
    assert {r.thought for r in rankings} == {""}
    said = [WRITE_AT_ONCE.said(checkpoint, r) for r in rankings]
    lengths = [len(t) for t in checkpoint.tokenizer(said, add_special_tokens=False)["input_ids"]]
    assert lengths == [shop.K + 2] * len(TEST)
