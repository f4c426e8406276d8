"""Two full runs and what two components change, worked out by hand.

The full runs are those of test_results. Without `all`, gr2_direct keeps the incoming order; without `nothing`, it is
as in the full run. So R@1 of gr2_direct, without `all` minus full, on the slates of users u and v:

    seed 0   u: 0 - 1 = -1   v: 1 - 0 = 1
    seed 1   u: 0, 0         v: 0 - 1 = -1

A draw of two users is u and v (half of the draws), u twice or v twice (a quarter each).
"""

import io
import re
import shutil

import pytest
from test_results import make_run

from gr2.artifacts import Rankings
from gr2.errors import UserError
from gr2.evaluate.ablation import compare
from gr2.evaluate.ablation_page import page, printed, served, verdict
from gr2.evaluate.results import put_rows
from gr2.record import RECORD, read_json, write_json
from gr2.run import Console


def with_digests(run, code="abc"):
    """Records as a stage writes them: the digest of 13_evaluate is the run's own."""
    for path in run.glob(f"*/{RECORD}"):
        digest = str(run) if path.parent.name == "13_evaluate" else "common"
        write_json(path, {**read_json(path), "digest": digest, "git_commit": code, "code": f"code of {code}"})
    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        full = with_digests(make_run(home / f"full-{seed}", seed, seconds=1.0))
        for name, code in (("all", "abc"), ("nothing", "abd")):
            with_digests(shutil.copytree(full, home / f"{name}-{seed}"), code)
        evaluation = home / f"all-{seed}" / "13_evaluate"
        incoming = Rankings.load(evaluation / "incoming").rankings
        Rankings(ranker="gr2_direct", rankings=incoming).save(evaluation / "gr2_direct")
    return home


def of(home, name):
    return [home / f"{name}-{seed}" for seed in (1, 0)]


@pytest.fixture(scope="module")
def compared(home):
    return compare(of(home, "full"), {name: of(home, name) for name in ("all", "nothing")}, "ablation")


@pytest.fixture(scope="module")
def rows(compared):
    return [row.as_json(2, "gr2 ablate x.toml") for row in compared[0]]


def row_of(rows, table, mode, component, metric="R@1"):
    key = (table, f"{mode} without {component}", metric)
    (found,) = [r for r in rows if (r["table"], r["row"], r["metric"]) == key]
    return found


def test_a_difference_is_the_mean_of_the_seeds_and_its_interval_draws_a_user_with_all_seeds(rows):
    lost = row_of(rows, "ablation", "gr2_direct", "all")
    assert lost["ours"] == pytest.approx((0 / 2 + -1 / 3) / 2)
    only_u, only_v = (-1 + 0) / 2, (1 + -1) / 2
    assert (lost["low"], lost["high"]) == pytest.approx((only_u, only_v))
    assert lost["full"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert lost["by_seed"] == pytest.approx({"0": 0, "1": -1 / 3})
    assert (lost["n"], lost["seeds"], lost["command"]) == (5, 2, "gr2 ablate x.toml")


def test_p_is_paired_and_holms_correction_is_over_the_components(rows):
    # of u alone -1/2 and of v alone 0, both at least 1/6 away from -1/6: half of the draws
    lost = row_of(rows, "ablation", "gr2_direct", "all")
    assert lost["p"] == pytest.approx(1 / 2, abs=0.02)
    assert lost["p_holm"] == pytest.approx(min(1, 2 * lost["p"]))
    same = row_of(rows, "ablation", "gr2_direct", "nothing")
    assert (same["ours"], same["low"], same["high"], same["p"], same["p_holm"]) == (0, 0, 0, 1, 1)


def test_end_to_end_counts_the_misses(rows):
    # seed 0 has two misses and seed 1 one, which are 0 in both runs
    lost = row_of(rows, "ablation-end-to-end", "gr2_direct", "all")
    assert lost["ours"] == pytest.approx((0 / 4 + -1 / 4) / 2)
    assert lost["n"] == 8


def test_every_mode_component_and_metric_has_a_row(rows):
    assert len({(r["table"], r["row"], r["metric"]) for r in rows}) == len(rows) == 2 * 2 * 2 * 6


def test_other_code_is_told_where_a_stage_was_made_anew(compared, home):
    assert compared[1] == ["13_evaluate by commit abd, the full run's by abc: nothing-0, nothing-1"]


def test_what_cannot_be_compared_is_refused(home, tmp_path):
    with pytest.raises(UserError, match="seeds 1 and 0; a run is compared with the full run of its seed"):
        compare([home / "full-0"], {"all": [home / "all-1"]}, "ablation")
    other = shutil.copytree(home / "all-0", tmp_path / "other")
    record = read_json(other / "04_slates" / RECORD)
    write_json(other / "04_slates" / RECORD, {**record, "digest": "another"})
    with pytest.raises(UserError, match="other slates"):
        compare([home / "full-0"], {"other": [other]}, "ablation")
    with pytest.raises(UserError, match="not complete"):
        compare([home / "full-0"], {"other": [tmp_path / "absent"]}, "ablation")


def test_a_mode_that_only_one_of_them_has_is_left_out(home, tmp_path):
    less = shutil.copytree(home / "all-0", tmp_path / "less")
    summary = read_json(less / "13_evaluate" / "summary.json")
    for table in summary["table"].values():
        del table["gr2_thinking"]
    write_json(less / "13_evaluate" / "summary.json", summary)
    for full, without in (("full-0", less), (less, "full-0")):
        rows, _ = compare([home / full], {"x": [home / without]}, "ablation")
        assert {row.more["mode"] for row in rows} == {"gr2_direct"}
    for table in summary["table"].values():
        table["prm"] = table.pop("lambdamart")
    summary["best_legacy"] = "prm"
    write_json(less / "13_evaluate" / "summary.json", summary)
    write_json(less / "13_evaluate" / "valid.json", {"prm": {"R@1": 0.5, "N@3": 0.5}})
    (less / "13_evaluate" / "lambdamart").rename(less / "13_evaluate" / "prm")
    with pytest.raises(UserError, match="other rankers"):
        compare([home / "full-0"], {"x": [less]}, "ablation")


def test_the_page_needs_nothing_from_elsewhere_and_says_it_all(rows, compared):
    text = page(rows, "shop", compared[1])
    loaded = re.findall(r"""(?:\bsrc|\bhref|url\()\s*=?\s*["']?([^"'\s>)]+)""", text)
    assert [source[:60] for source in loaded if not source.startswith(("data:", "#"))] == []
    assert text.count("data:image/svg+xml") == 4
    assert "None of 2 removals changes R@1 of gr2 direct beyond chance (p&nbsp;&lt;&nbsp;.05 after Holm" in text
    assert "<b>-0.167</b><small>-0.500 to +0.000</small>" in text
    assert "13_evaluate by commit abd, the full run&#x27;s by abc: nothing-0, nothing-1" in text
    assert "Not all runs" not in page(rows, "shop", [])


def test_the_sentence_names_what_matters(rows):
    sure = [{**row, "p_holm": 0.01} if row["component"] == "all" else row for row in rows]
    words = verdict(served(sure)["gr2_direct"], "gr2_direct")
    assert words.startswith(
        "Removing all (-0.167) changes R@1 of gr2 direct beyond chance; the other 1 of 2 removals do not"
    )


def test_the_command_line_shows_the_served_modes(rows):
    console = Console(width=100, file=io.StringIO())
    assert list(served(rows)) == ["gr2_direct", "gr2_thinking"]
    console.print(printed(served(rows)["gr2_direct"], "gr2_direct"))
    text = console.file.getvalue()
    assert "gr2 direct without ... (5 slates, 2 seeds)" in text
    assert "-0.167" in text


def test_the_rows_go_into_the_results_page(rows, tmp_path):
    put_rows(tmp_path, ["ablation", "ablation-end-to-end"], rows)
    put_rows(tmp_path, ["ablation", "ablation-end-to-end"], rows)
    assert len(read_json(tmp_path / "results.json")) == len(rows)
    text = (tmp_path / "results.md").read_text()
    assert "## ablation\n" in text
    assert "| **gr2 direct without all** | -0.167<br>-0.500 to +0.000<br>p = " in text
