"""Slates that a production ranker showed, through all stages: clicks weigh by the chances of their places."""

import numpy as np
import polars as pl
import pytest
import shop
from test_tiny_run import TINY, typed

from gr2.artifacts import Scores, Slates, practice_slates
from gr2.evaluate.headline import DEBIASED
from gr2.record import read_json
from gr2.types import Split

DAY, DAYS, PLACES = 86_400, 20, 4
THETA = (1.0, 0.6, 0.4, 0.3)


def write_log(path) -> None:
    """Everybody sees four items a day in random order, and clicks what is of the first department that they walked
    through, if they look at its place."""
    rng, rows = np.random.default_rng(0), []
    for u, (user, walk) in enumerate(shop.walks().items()):
        for day in range(2, DAYS + 2):
            for place, item in enumerate(rng.permutation([i.item_id for i in shop.items()])[:PLACES]):
                click = item[1] == walk[0][1] and rng.random() < THETA[place]
                rows.append((f"s{u}-{day}", f"[/{user}]", str(item), place, int(click), day * DAY))
    names = ["slate_id", "user_id", "item_id", "position", "click", "time"]
    pl.DataFrame(rows, schema=names, orient="row").write_csv(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("logged")
    shop.write(home)
    write_log(home / "log.csv")
    log = f'log = {{ path = "log.csv", propensities = {list(THETA)}, columns = {{ conversion = "", score = "" }} }}'
    config = TINY.replace("[slates]\n", f"[slates]\n{log}\n")
    for table in ("rl", "direct"):
        config = config.replace(f"[{table}]\n", f"[{table}]\nclick_clip = 10.0\n")
    (home / "logged.toml").write_text(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert typed("run", "logged.toml") == 0
    return home / "runs" / "logged"


def test_the_table_has_the_debiased_protocol(run):
    scores = Scores.load(run / "13_evaluate")
    tests = Slates.load(run / "04_slates").split(Split.TEST)
    assert scores.n_slates == len(tests) > 0
    assert scores.table.keys() == {"given_target", "end_to_end", DEBIASED}
    assert "gr2_direct" in scores.table[DEBIASED]


def test_a_log_has_no_longer_lists_to_draw_practice_slates_from(run):
    assert read_json(run / "04_slates" / "record.json")["config"]["practice"] == 8
    assert practice_slates(run / "04_slates") == ()
    assert read_json(run / "12_legacy" / "tuning.json").keys() == {"lambdamart", "dcn", "prm"}


def test_the_grid_is_tried_by_weighted_metrics(run):
    """With plain metrics R@1 of n slates is a whole number of n-ths; weighted ones are not."""
    n = len(Slates.load(run / "04_slates").split(Split.VALID))
    tuning = read_json(run / "12_legacy" / "tuning.json")
    tries = [t for name in ("lambdamart", "dcn", "prm") for t in tuning[name]["tried"]]
    assert any(abs(n * t["recall_at_1"] - round(n * t["recall_at_1"])) > 1e-6 for t in tries)


def test_the_advice_is_fitted_and_kept(run):
    slates = Slates.load(run / "10_direct").slates
    assert {len(s.advice) for s in slates} == {PLACES}
    assert max(abs(a) for s in slates for a in s.advice) > 0.1
