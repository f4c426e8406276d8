"""Two made-up runs of two users, worked out by hand.

R@1 on the slates of users u and v (x = a slate's target comes first):

                    seed 0           seed 1
    gr2_direct      u: 1   v: 0      u: 1, 0   v: 1
    incoming        u: 0   v: 1      u: 1, 0   v: 0

A draw of two users is u and v (half of the draws), u twice or v twice (a quarter each), so a 95 % interval goes from
the smallest to the largest of the three means.
"""

import json
from dataclasses import replace
from itertools import product

import pytest
from test_metrics import slate

from gr2.artifacts import MetricValue, Rankings, Scores, Slates
from gr2.baselines.simple import rank_incoming
from gr2.errors import UserError
from gr2.evaluate.metrics import MEASURES
from gr2.evaluate.pooled import BEST_LEGACY, BEST_SINGLE, NOT_SINGLE, Pooled, best_single
from gr2.evaluate.results import _strongest, write_results
from gr2.evaluate.significance import holm
from gr2.evaluate.table import evaluate
from gr2.record import write_json
from gr2.types import AnswerStatus, Ranking

FIRST, SECOND = (1, 0, 0), (0, 1, 0)
GAINS = ({"u:1": SECOND, "v:1": FIRST}, {"u:1": FIRST, "u:2": SECOND, "v:1": SECOND})
SWAPPED = ({"u:1", "v:1"}, {"v:1"})
"""Slates whose first two candidates gr2_direct swaps, for each seed."""
EVENTS = {"u": 2, "v": 2}
TRUTH = (MetricValue(value=0.5, low=0.3, high=0.6, n=2), MetricValue(value=0.75, low=0.4, high=0.9, n=3))
"""Of what gr2_thinking says, for each seed."""


def make_run(folder, seed, *, seconds, k=3, practised=False):
    slates = [slate(gains, slate_id) for slate_id, gains in GAINS[seed].items()]
    direct = [
        Ranking(slate_id=s.slate_id, order=(1, 0, 2) if s.slate_id in SWAPPED[seed] else (0, 1, 2)) for s in slates
    ]
    unanswered = [
        Ranking(slate_id=s.slate_id, order=(0, 1, 2), status=AnswerStatus.UNANSWERED if i == 0 else AnswerStatus.VALID)
        for i, s in enumerate(slates)
    ]
    incoming = rank_incoming(slates)
    rankings = {"incoming": incoming, "lambdamart": incoming, "gr2_direct": direct, "gr2_thinking": unanswered}
    rankings |= {"lambdamart_practised": direct} if practised else {}
    for stage in ("02_sids", "04_slates", "13_evaluate"):
        (folder / stage).mkdir(parents=True)
        config = {"k": k, "seed": seed}
        resumed = stage == "04_slates" and seed == 1
        record = {"seconds": seconds, "peak_memory_gb": seconds / 10, "resumed": resumed, "device": "abacus"}
        write_json(folder / stage / "record.json", {"config": config, **record})
    write_json(folder / "02_sids" / "report.json", {"n_items": 3, "unique_share": 1.0})
    Slates(slates=tuple(slates)).save(folder / "04_slates")
    write_json(folder / "04_slates" / "events.json", {"test": EVENTS})
    for name, ranking in rankings.items():
        (folder / "13_evaluate" / name).mkdir()
        Rankings(ranker=name, rankings=tuple(ranking)).save(folder / "13_evaluate" / name)
    found = evaluate(slates, EVENTS, rankings, "lambdamart")
    truth = {"gr2_thinking": {"truth": TRUTH[seed]}, "gr2_direct": {}, "lambdamart": {"truth": TRUTH[seed]}}
    replace(found, probes=truth).save(folder / "13_evaluate")
    statuses = ({"valid": 3, "partial": 1}, {"valid": 4})[seed]
    free = {"n": 4, "valid_share": statuses["valid"] / 4, "statuses": statuses}
    write_json(folder / "13_evaluate" / "free_answers.json", {"sft_thinking": free})
    on_valid = {"incoming": 0.9, "stack": 0.8, "gr2_direct": 0.7, "lambdamart": 0.5}
    on_valid["lambdamart_practised"] = (0.4, 0.6)[seed]
    known = {name: {"R@1": value, "N@3": 0.1} for name, value in on_valid.items() if name in {*rankings, "stack"}}
    write_json(folder / "13_evaluate" / "valid.json", known)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    return [make_run(home / "b", 1, seconds=20.0), make_run(home / "a", 0, seconds=10.0)]


@pytest.fixture(scope="module")
def docs(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    old = [{**number("nano", "gone"), "ours": 7.0}, number("beauty", "gr2_direct")]
    write_json(folder / "results.json", old)
    write_results(folder, "nano", runs, "pool them")
    return folder


@pytest.fixture(scope="module")
def rows(docs):
    return json.loads((docs / "results.json").read_text())


def number(table, row):
    """A row as another table's writer may have left it."""
    return {"table": table, "row": row, "metric": "R@1", "paper": 0.2977, "ours": 0.25, "low": 0.2, "high": 0.3} | {
        "n": 1700,
        "seeds": 1,
        "command": "elsewhere",
        "match": "no",
    }


def of(rows, table, row, metric):
    (found,) = [r for r in rows if (r["table"], r["row"], r["metric"]) == (table, row, metric)]
    return found


def test_a_metric_is_the_mean_of_the_seeds_and_its_interval_draws_a_user_with_all_seeds(rows):
    direct = of(rows, "nano", "gr2_direct", "R@1")
    assert direct["ours"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # and not 3 of 5
    only_u, only_v = (1 + 1 / 2) / 2, (0 + 1) / 2
    assert (direct["low"], direct["high"]) == pytest.approx((only_v, only_u))
    assert (direct["n"], direct["seeds"], direct["command"], direct["match"]) == (5, 2, "pool them", "different data")


def test_end_to_end_counts_the_misses(rows):
    # u had 2 events and 1 slate, v 2 and 1; then u 2 and 2, v 2 and 1
    direct = of(rows, "nano-end-to-end", "gr2_direct", "R@1")
    assert direct["ours"] == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert (direct["low"], direct["high"]) == pytest.approx(((0 / 2 + 1 / 2) / 2, (1 / 2 + 1 / 2) / 2))
    assert direct["n"] == 8


def test_margins_are_relative_and_paired(rows):
    margin = of(rows, "nano-margins", "gr2_direct against incoming", "R@1")
    direct, incoming = (1 / 2 + 2 / 3) / 2, (1 / 2 + 1 / 3) / 2
    assert margin["ours"] == pytest.approx(direct / incoming - 1)
    only_u, only_v = ((1 + 1 / 2) / (0 + 1 / 2), (0 + 1) / (1 + 0))
    assert (margin["low"], margin["high"]) == pytest.approx((only_v - 1, only_u - 1))
    assert (margin["paper"], margin["match"]) == (0.187, "yes")
    # the difference is 1/6; of u alone 1/2 and of v alone 0, both at least 1/6 away from it: half of the draws
    assert margin["p"] == pytest.approx(1 / 2, abs=0.02)
    still = of(rows, "nano-margins", "gr2_thinking against incoming", "R@3")
    assert (still["ours"], still["p"], still["match"]) == (0, 1, "no")


def test_holm_is_over_all_modes_and_metrics_against_one_reference(rows):
    family = [r for r in rows if r["table"] == "nano-margins" and r["row"].endswith("against incoming")]
    assert {(r["row"].split()[0], r["metric"]) for r in family} == set(
        product(("gr2_direct", "gr2_thinking"), MEASURES)
    )
    assert [r["p_holm"] for r in family] == pytest.approx(holm([r["p"] for r in family]))
    assert min(r["p"] for r in family) < 0.6 < min(r["p_holm"] for r in family)


def test_the_best_legacy_is_each_seeds_own_and_unpublished(rows):
    margin = of(rows, "nano-margins", "gr2_direct against best legacy (lambdamart)", "R@1")
    assert margin["ours"] == pytest.approx(7 / 5 - 1)
    assert (margin["paper"], margin["match"]) == (None, None)


def test_the_strongest_legacy_is_named_by_the_slates_themselves(rows):
    """lambdamart echoes, and is alone without words; seed 0 has 1/2 against 1/2, seed 1 2/3 against 1/3."""
    margin = of(rows, "nano-margins", "gr2_direct against strongest legacy on these slates (lambdamart)", "R@1")
    assert margin["ours"] == pytest.approx(7 / 5 - 1)
    assert margin["change_by_seed"] == pytest.approx({"0": 0, "1": 1})
    assert "p_by_seed" not in margin
    single = of(rows, "nano-margins", "gr2_direct against strongest single legacy on these slates (lambdamart)", "R@1")
    assert single["ours"] == margin["ours"]


def test_where_there_are_practice_slates_who_had_none_is_a_reference_too(rows, tmp_path):
    """With them lambdamart ranks as gr2_direct does; by R@3, which is 1 for all, the first of equals is named."""
    assert not any("practice" in r["row"] for r in rows)
    runs = [make_run(tmp_path / str(seed), seed, seconds=1.0, practised=True) for seed in (0, 1)]
    write_results(tmp_path, "nano", runs, "pool them")
    made, against = json.loads((tmp_path / "results.json").read_text()), "gr2_direct against strongest single legacy"
    with_them = of(made, "nano-margins", f"{against} on these slates (lambdamart, lambdamart_practised)", "R@1")
    without = of(made, "nano-margins", f"{against} without practice slates on these slates (lambdamart)", "R@1")
    assert with_them["ours"] == 0
    assert without["ours"] == pytest.approx(7 / 5 - 1)


def test_the_best_single_legacy_is_the_one_that_each_seeds_validation_chose(rows, tmp_path):
    """Seed 0 prefers lambdamart, which echoes, seed 1 the practised one, which ranks as gr2_direct does."""
    alone = of(rows, "nano-margins", "gr2_direct against best single legacy (lambdamart)", "R@1")
    assert alone["ours"] == pytest.approx(7 / 5 - 1)
    runs = [make_run(tmp_path / str(seed), seed, seconds=1.0, practised=True) for seed in (0, 1)]
    write_results(tmp_path, "nano", runs, "pool them")
    made, both = json.loads((tmp_path / "results.json").read_text()), "lambdamart, lambdamart_practised"
    margin = of(made, "nano-margins", f"gr2_direct against best single legacy ({both})", "R@1")
    assert margin["ours"] == pytest.approx((1 / 2 + 2 / 3) / (1 / 2 + 2 / 3) - 1)
    assert margin["change_by_seed"] == pytest.approx({"0": 0, "1": 0})
    assert "p_by_seed" not in margin


def test_validation_chooses_a_single_one_by_both_metrics():
    not_single = {name: {"R@1": 0.9, "N@3": 0.9} for name in ("incoming", "stack", "advice", "gr2_direct", "plain_llm")}
    assert best_single(not_single | {"prm": {"R@1": 0.5, "N@3": 0.2}, "dcn": {"R@1": 0.4, "N@3": 0.4}}) == "dcn"


def test_neither_words_nor_the_incoming_order_are_the_strongest_legacy():
    names = ("incoming", "gr2_direct", "midtrained_likelihood", "plain_llm", BEST_LEGACY, BEST_SINGLE)
    means = dict.fromkeys(names, 0.9)
    legacy = {"prm": 0.5, "stack": 0.6, "advice": 0.55, "teacher": 0.4}
    mean = {(ranker, metric): value for ranker, value in (means | legacy).items() for metric in MEASURES}
    mean["prm", "N@3"] = 0.7
    pooled = Pooled(mean=mean, draws={}, n=1)
    assert _strongest(pooled) == {m: "prm" if m == "N@3" else "stack" for m in MEASURES}
    assert _strongest(pooled, NOT_SINGLE) == dict.fromkeys(MEASURES, "prm")


def test_the_p_of_every_seed_is_that_of_its_summary(rows, runs):
    margin = of(rows, "nano-margins", "gr2_direct against incoming", "N@3")
    seed_1, seed_0 = (Scores.load(run / "13_evaluate").table["given_target"]["gr2_direct"]["N@3"] for run in runs)
    assert margin["p_by_seed"] == {"0": seed_0.p_incoming, "1": seed_1.p_incoming}


def test_validity_by_hand(rows):
    free = of(rows, "nano-validity", "sft_thinking, free", "valid share")
    assert (free["ours"], free["n"]) == (7 / 8, 8)
    z, n, p = 1.959964, 8, 7 / 8
    middle, half = (p + z**2 / (2 * n)), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    bounds = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert (free["low"], free["high"]) == pytest.approx(bounds, abs=1e-5)
    assert of(rows, "nano-validity", "gr2_direct, as served", "valid share")["ours"] == 1
    assert of(rows, "nano-validity", "gr2_thinking, as served", "valid share")["ours"] == 3 / 5
    unique = of(rows, "nano-validity", "semantic ids", "unique share")
    assert (unique["ours"], unique["low"], unique["high"], unique["n"]) == (1, 1, 1, 3)


def test_truth_is_the_mean_of_the_seeds_between_the_ends_of_their_intervals(rows):
    thinking = of(rows, "nano-validity", "gr2_thinking, as served", "truth")
    assert [thinking[key] for key in ("ours", "low", "high", "n")] == [0.625, 0.3, 0.9, 5]
    assert [r["row"] for r in rows if r["metric"] == "truth"] == ["gr2_thinking, as served"]


def test_cost_is_over_seeds_and_leaves_out_half_timed_stages(rows):
    seconds = of(rows, "nano-cost", "02_sids", "seconds")
    assert (seconds["ours"], seconds["low"], seconds["high"], seconds["n"]) == (15, 10, 20, 2)
    went_on = of(rows, "nano-cost", "04_slates", "seconds")
    assert (went_on["ours"], went_on["n"]) == (10, 1)
    whole = of(rows, "nano-cost", "whole run", "seconds")
    assert (whole["ours"], whole["n"]) == (3 * 10, 1)
    assert of(rows, "nano-cost", "whole run", "peak GB")["ours"] == (1 + 2) / 2


def test_other_tables_stay_and_the_own_is_replaced(rows):
    assert of(rows, "beauty", "gr2_direct", "R@1") == number("beauty", "gr2_direct")
    assert not [r for r in rows if r["row"] == "gone"]


def test_the_page_says_it_all(docs):
    text = (docs / "results.md").read_text()
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        f"## {t}" for t in ("beauty", "nano", "nano-cost", "nano-end-to-end", "nano-margins", "nano-validity")
    ]
    assert "| **gr2 direct** | 0.583<br>0.500 to 0.750 |" in text
    assert "| 0.250<br>0.200 to 0.300<br>published 0.298: no | 1,700 | 1 |" in text
    assert "+40.0%<br>+0.0% to +200.0%<br>p = " in text
    assert "p of seeds 1.000, 1.000<br>published +18.7%: yes" in text
    assert "Made by `pool them`. Machine: abacus." in text


def test_the_same_again_writes_the_same(docs, runs):
    before = (docs / "results.json").read_bytes(), (docs / "results.md").read_bytes()
    write_results(docs, "nano", runs, "pool them")
    assert before == ((docs / "results.json").read_bytes(), (docs / "results.md").read_bytes())


def test_runs_that_are_no_repetitions_are_refused(runs, tmp_path):
    _, seed_0 = runs
    with pytest.raises(UserError, match="both of seed 0"):
        write_results(tmp_path, "nano", [seed_0, seed_0], "")
    other = make_run(tmp_path / "other", 1, seconds=1.0, k=4)
    with pytest.raises(UserError, match=r"other configs \(02_sids.k: 3 -> 4"):
        write_results(tmp_path, "nano", [seed_0, other], "")
    with pytest.raises(UserError, match="not complete"):
        write_results(tmp_path, "nano", [tmp_path / "absent"], "")
    assert not (tmp_path / "results.json").exists()
