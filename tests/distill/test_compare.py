"""The table of thinking distilled away, by hand on four made-up slates."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shop

from gr2.distill.compare import BEFORE, CUT_OFF, DIRECT, THINKING, WRITE_AT_ONCE, Contestant, alone, rows, timed
from gr2.distill.students import Run
from gr2.lm.rank import rank_in_one_pass
from gr2.stages.s10_direct import weigh
from gr2.types import AnswerStatus, Ranking, Split

VALID, TEST = shop.slates(4, Split.VALID), shop.slates(4, Split.TEST)


class Slates:
    """A run whose slates are all that is asked for."""

    def split(self, split):
        return VALID if split is Split.VALID else TEST


def contestant(name, hits, test=TEST) -> Contestant:
    """Puts the target first on test slates where `hits`, else last, and first on all validation slates."""

    def ranking(slate, hit):
        others = [c for c in range(shop.K) if c != slate.target]
        order = (slate.target, *others) if hit else (*others, slate.target)
        return Ranking(slate_id=slate.slate_id, order=order)

    return Contestant(
        name=name,
        parameters=8.0,
        valid=[ranking(s, True) for s in VALID],
        test=[ranking(s, hit) for s, hit in zip(test, hits, strict=True)],
        tokens=np.resize([3, 5, 4, 4], len(test)),
        milliseconds=(1.0, 2.0, 4.0),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run(run=tmp_path_factory.mktemp("run"), out=tmp_path_factory.mktemp("out"))
    object.__setattr__(run, "slates", Slates())
    return run


def models():
    return [
        contestant(THINKING, [True, False, False, False]),
        contestant(BEFORE, [True, True, False, False]),
        contestant(CUT_OFF, [True, False, True, False]),
        contestant(DIRECT, [True, True, True, True]),
        contestant("small", [True, True, True, False]),
    ]


def by_name(rows):
    return {(row.table, row.row, row.metric): row for row in rows}


@pytest.fixture(scope="module")
def table(run):
    return by_name(rows(run, "t", models()))


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


def test_models_alone_share_the_gain_of_the_direct_model_alone(run, table):
    """Of 40 slates direct alone gets 30 and small alone 24."""
    slates = shop.slates(40, Split.TEST)
    many = Run(run=run.run, out=run.out)
    object.__setattr__(many, "slates", SimpleNamespace(split=lambda split: VALID if split is Split.VALID else slates))
    hits = {THINKING: 35, BEFORE: 20, CUT_OFF: 20, DIRECT: 40, "direct, alone": 30, "small, alone": 24}
    found = by_name(rows(many, "t", [contestant(name, [i < n for i in range(40)], slates) for name, n in hits.items()]))
    incoming = found["t", "incoming", "R@1"].ours
    share = found["t-differences", "small, alone", "share of direct, alone's gain, R@1"].ours
    assert incoming < 0.5
    assert share == pytest.approx((24 / 40 - incoming) / (30 / 40 - incoming))
    assert ("t-differences", "small, alone", "share of direct's gain, R@1") not in found
    # Slates without advice keep their order; where no model is asked alone there is no such row.
    assert found["t", "advice", "R@1"].ours == incoming
    assert found["t-differences", "advice", "share of direct's gain, R@1"].ours == 0
    assert ("t", "advice", "R@1") not in table


def test_a_model_alone_hears_no_advice_and_is_weighed_without_it(run):
    """Advice that names the target would be all that is heard; without it, words and head are weighed."""
    told = [replace(s, advice=tuple(5.0 * g for g in s.gains)) for s in shop.slates(40, Split.VALID)]
    advised = Run(run=run.run, out=run.out)
    object.__setattr__(advised, "slates", SimpleNamespace(split=lambda _: told))
    model = replace(shop.checkpoint_with_head(), advice=1.0, items=0.3, anyone=0.1)
    by_itself, plain = alone(advised, model), weigh(model, [replace(s, advice=()) for s in told])
    assert by_itself.advice == 0
    assert (by_itself.items, by_itself.anyone) == (plain.items, plain.anyone) != (model.items, model.anyone)
    test = [replace(s, advice=tuple(100.0 * place for place in range(shop.K))) for s in TEST]
    unheard = [replace(s, advice=()) for s in TEST]
    ranked = [rank_in_one_pass(by_itself, slates, batch_size=4, label=None) for slates in (test, unheard)]
    assert ranked[0] == ranked[1]


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
