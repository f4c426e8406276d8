"""From a simulated click log with a known truth to the table: the stage's own reader, slates, EM and evaluation."""

import numpy as np
import polars as pl
import pytest
from test_metrics import slate

from gr2.artifacts import Corpus, Scores
from gr2.baselines.simple import rank_incoming
from gr2.corpus.logged import LogConfig, read_log
from gr2.corpus.logged_slates import slates_of
from gr2.evaluate.propensity import Examination
from gr2.evaluate.table import DEBIASED, evaluate
from gr2.record import write_json
from gr2.stages.s04_slates import examine
from gr2.types import DAY, Item, Ranking, Split, Timeline

K, USERS, DAYS = 6, 400, 60
THETA = 1 / np.arange(1, K + 1) ** 1.5
CORPUS = Corpus(
    items=tuple(Item(item_id=f"i{i}", title=f"film {i}") for i in range(K)),
    timelines=tuple(
        Timeline(user_id=f"u{u}", item_ids=("i0",), times=(0,), splits=(Split.TRAIN,)) for u in range(USERS)
    ),
)
GOOD = 0.4
"""How often the better ranker puts the wanted item first, wherever it was shown; the order shown does in 1 of 6."""


def shown(path) -> LogConfig:
    """Every user wants one item, sees it somewhere once a day, and clicks it when that place is looked at."""
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(np.arange(K), (USERS * DAYS, 1)), axis=1)
    user = np.repeat(np.arange(USERS), DAYS)
    looked = rng.random(orders.shape) < THETA
    clicks = looked & (orders == (user % K)[:, None])
    rows = {
        "slate_id": np.char.add("s", np.repeat(np.arange(len(orders)), K).astype(str)),
        "user_id": np.char.add("u", np.repeat(user, K).astype(str)),
        "item_id": np.char.add("i", orders.ravel().astype(str)),
        "position": np.tile(np.arange(K), len(orders)),
        "click": clicks.ravel().astype(int),
        "time": np.repeat(np.tile(np.arange(2, DAYS + 2), USERS) * DAY, K),
    }
    pl.DataFrame(rows).write_parquet(path)
    return LogConfig(path=path, columns={"conversion": "", "score": ""}, test_share=0.3)


def better(slates) -> list[Ranking]:
    """Puts what is wanted first in GOOD of the slates, by their number and not by their clicks, and last in others."""
    rankings = []
    for s in slates:
        wanted = s.candidates.index(f"i{int(s.user_id[1:]) % K}")
        others = [c for c in range(K) if c != wanted]
        knows = int(s.slate_id[1:]) * 7919 % 1000 < 1000 * GOOD
        rankings.append(Ranking(slate_id=s.slate_id, order=(wanted, *others) if knows else (*others, wanted)))
    return rankings


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[Scores, Examination]:
    folder = tmp_path_factory.mktemp("log")
    config = shown(folder / "log.parquet")
    log = read_log(config.path, config.columns, CORPUS)
    made = slates_of(log, CORPUS, config, k=K, history_cap=5)
    write_json(folder / "examination.json", examine(log, config, K))
    examination, test = Examination.load(folder), made.slates.split(Split.TEST)
    rankings = {"incoming": rank_incoming(test), "better": better(test)}
    return evaluate(test, made.n_events[Split.TEST], rankings, "incoming", examination=examination), examination


def test_the_chances_of_the_places_are_found_from_swaps(found):
    _, examination = found
    assert examination.propensities == pytest.approx(THETA, abs=0.05)
    assert examination.source.startswith("estimated from")


def test_the_naive_table_picks_the_wrong_ranker_and_the_debiased_one_the_right_one(found):
    scores, _ = found
    naive, fair = (scores.table[protocol]["better"]["R@1"] for protocol in ("given_target", DEBIASED))
    # clicks come from the first place in 1 / sum(theta) = .55 of slates
    echo = scores.table["given_target"]["incoming"]["R@1"]
    assert echo.value == pytest.approx(1 / THETA.sum(), abs=0.03)
    assert naive.gain_incoming[2] < 0
    assert naive.holm_incoming < 0.001
    assert fair.gain_incoming[1] > 0
    assert fair.holm_incoming < 0.001
    for protocol in ("given_target", "end_to_end", DEBIASED):
        assert {v.n for row in scores.table[protocol].values() for v in row.values()} == {scores.n_slates}


def test_the_truth_is_in_the_debiased_intervals(found):
    scores, _ = found
    fair = scores.table[DEBIASED]
    for ranker, truth in (("better", GOOD), ("incoming", 1 / K)):
        value = fair[ranker]["R@1"]
        # the clip at 10 costs the last places 4 clicks in 100 and moves the mean by as much at most
        assert value.low - 0.02 < truth < value.high + 0.02
        assert 0 < value.high - value.low < 0.1
    places = 1 / np.arange(1, K + 1)
    assert fair["incoming"]["MRR"].value == pytest.approx(places.mean(), abs=0.03)


@pytest.mark.parametrize("examination", [None, Examination(propensities=None, source="too few swaps")])
def test_without_known_chances_there_is_no_debiased_table(examination):
    one = slate((0, 1, 0), "u0:5")
    scores = evaluate([one], {"u0": 1}, {"incoming": rank_incoming([one])}, "incoming", examination=examination)
    assert scores.table.keys() == {"given_target", "end_to_end"}


def test_what_is_known_of_the_places_is_read(tmp_path):
    assert Examination.load(tmp_path) is None
    write_json(tmp_path / "examination.json", {"propensities": None, "source": "too few swaps"})
    assert Examination.load(tmp_path) == Examination(propensities=None, source="too few swaps")
