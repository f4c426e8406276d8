import pytest
from test_metrics import slate

from gr2.artifacts import Scores
from gr2.baselines.simple import rank_incoming
from gr2.errors import UserError
from gr2.evaluate.table import evaluate
from gr2.types import Ranking

# three users; u0 has two slates and one miss, u1 one slate, u2 one miss: 3 slates, 5 events
SLATES = [slate((0, 1, 0), "u0:5"), slate((1, 0, 0), "u0:6"), slate((0, 0, 1), "u1:5")]
EVENTS = {"u0": 3, "u1": 1, "u2": 1}


def oracle() -> list[Ranking]:
    return [Ranking(slate_id=s.slate_id, order=(s.target, *(c for c in range(3) if c != s.target))) for s in SLATES]


@pytest.fixture
def scores() -> Scores:
    return evaluate(SLATES, EVENTS, {"incoming": rank_incoming(SLATES), "oracle": oracle()}, best_legacy="incoming")


def test_both_protocols_by_hand(scores: Scores) -> None:
    given, end = scores.table["given_target"], scores.table["end_to_end"]
    assert (scores.n_slates, scores.n_events) == (3, 5)
    assert given["incoming"]["R@1"].value == pytest.approx(1 / 3)
    assert end["incoming"]["R@1"].value == pytest.approx(1 / 5)
    assert given["incoming"]["MRR"].value == pytest.approx((1 / 2 + 1 + 1 / 3) / 3)
    assert end["incoming"]["MRR"].value == pytest.approx((1 / 2 + 1 + 1 / 3) / 5)
    assert (given["oracle"]["N@3"].value, end["oracle"]["N@3"].value) == pytest.approx((1, 3 / 5))
    assert {v.n for row in given.values() for v in row.values()} == {3}
    assert {v.n for row in end.values() for v in row.values()} == {5}


def test_intervals_and_p_values(scores: Scores) -> None:
    given = scores.table["given_target"]
    assert (given["oracle"]["R@1"].low, given["oracle"]["R@1"].high) == (1, 1)
    assert given["incoming"]["R@1"].p_incoming is None
    # two slates only the oracle hits: 2 * (1/2)^2
    assert given["oracle"]["R@1"].p_incoming == pytest.approx(1 / 2)
    assert given["oracle"]["R@3"].p_incoming == 1.0
    for protocol in scores.table.values():
        for row in protocol.values():
            assert all(v.low <= v.value <= v.high for v in row.values())


def test_survives_the_disk(scores: Scores, tmp_path) -> None:
    scores.save(tmp_path)
    assert Scores.load(tmp_path) == scores


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(UserError, match="lambdamart"):
        evaluate(SLATES, EVENTS, {"incoming": rank_incoming(SLATES)}, best_legacy="lambdamart")
    with pytest.raises(UserError, match="user u1"):
        evaluate(SLATES, {"u0": 3}, {"incoming": rank_incoming(SLATES)}, best_legacy="incoming")
