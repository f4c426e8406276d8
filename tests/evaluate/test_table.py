import pytest
from test_metrics import slate

from gr2.artifacts import Scores
from gr2.baselines.simple import rank_incoming
from gr2.errors import UserError
from gr2.evaluate.probes import TRUTHS
from gr2.evaluate.significance import holm
from gr2.evaluate.table import evaluate
from gr2.reward.truth import Truth
from gr2.types import AnswerStatus, Ranking

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
    # three of three are not certain: Wilson's lower bound is n / (n + z^2)
    assert (given["oracle"]["R@1"].low, given["oracle"]["R@1"].high) == pytest.approx((3 / (3 + 1.959964**2), 1))
    assert given["incoming"]["R@1"].p_incoming is None
    # two slates only the oracle hits: 2 * (1/2)^2
    assert given["oracle"]["R@1"].p_incoming == pytest.approx(1 / 2)
    assert given["oracle"]["R@3"].p_incoming == 1.0
    for protocol in scores.table.values():
        for row in protocol.values():
            assert all(v.low <= v.value <= v.high for v in row.values())


def test_a_gain_is_a_difference_with_a_paired_interval(scores: Scores) -> None:
    gain = scores.table["given_target"]["oracle"]["MRR"].gain_incoming
    # u0's slates gain 1/2 and 0, u1's 2/3: a draw has u0 twice, u1 twice or both
    assert gain == pytest.approx(((1 / 2 + 0 + 2 / 3) / 3, 1 / 4, 2 / 3))
    assert scores.table["given_target"]["incoming"]["MRR"].gain_incoming is None


def test_holm_is_over_the_whole_table(scores: Scores) -> None:
    row = scores.table["given_target"]["oracle"]
    raw = [v.p_incoming for v in row.values()]
    assert [v.holm_incoming for v in row.values()] == pytest.approx(holm(raw))
    assert row["R@1"].holm_incoming == 1.0  # 6 times 1/2
    assert scores.table["end_to_end"]["incoming"]["R@1"].holm_incoming is None


def test_a_logged_slate_without_a_click_is_an_event_that_counts_nothing() -> None:
    logged = [*SLATES, slate((0, 0, 0), "u2:5")]
    scores = evaluate(logged, EVENTS, {"incoming": rank_incoming(logged)}, best_legacy="incoming")
    assert (scores.n_slates, scores.n_events) == (3, 5)
    assert scores.table["end_to_end"]["incoming"]["R@1"].value == pytest.approx(1 / 5)


def test_answers_and_probes_are_counted_with_intervals() -> None:
    wrong = [
        Ranking(slate_id="u0:5", order=(0, 1, 2), status=AnswerStatus.DUPLICATE),
        Ranking(slate_id="u0:6", order=(0, 1, 2), status=AnswerStatus.UNANSWERED),
        Ranking(slate_id="u1:5", order=(2, 1, 0), tied=2),
    ]
    asked_again = [Ranking(slate_id="u1:5", order=(2, 0, 1))]
    scores = evaluate(
        SLATES,
        EVENTS,
        {"incoming": rank_incoming(SLATES), "odd": wrong},
        best_legacy="incoming",
        shuffled={"odd": asked_again},
    )
    assert scores.answers["odd"] == {"duplicate": 1, "unanswered": 1, "valid": 1, "tied": 1, "repaired": 0}
    invalid = scores.probes["odd"]["invalid_share"]
    assert (invalid.value, invalid.n) == (pytest.approx(2 / 3), 3)
    # u0 answers nothing, u1 all: a draw has u0 twice, u1 twice or both
    assert (invalid.low, invalid.high) == (0, 1)
    assert scores.probes["odd"]["shuffle_same_first"].n == 1
    # 2 1 0 against 2 0 1: one of three pairs turned
    assert scores.probes["odd"]["shuffle_tau"].value == pytest.approx(1 / 3)
    assert "shuffle_tau" not in scores.probes["incoming"]
    assert scores.first_from["odd"] == pytest.approx([2 / 3, 0, 1 / 3])
    assert scores.target_at == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_survives_the_disk(scores: Scores, tmp_path) -> None:
    scores.save(tmp_path)
    assert Scores.load(tmp_path) == scores


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(UserError, match="lambdamart"):
        evaluate(SLATES, EVENTS, {"incoming": rank_incoming(SLATES)}, best_legacy="lambdamart")
    with pytest.raises(UserError, match="user u1"):
        evaluate(SLATES, {"u0": 3}, {"incoming": rank_incoming(SLATES)}, best_legacy="incoming")


def test_truths_are_probes_of_the_rankers_that_think() -> None:
    """Means over the slates, whatever the order of the truths; a share of .5, 0 and 1 is .5."""
    values = dict(zip((s.slate_id for s in SLATES), (0.5, 0.0, 1.0), strict=True))
    truths = {
        "oracle": {
            slate_id: Truth(steps=(value,), likes=value, next=1.0, reason=0.0, total=value / 2)
            for slate_id, value in reversed(values.items())
        }
    }
    rankings = {"incoming": rank_incoming(SLATES), "oracle": oracle()}
    found = evaluate(SLATES, EVENTS, rankings, best_legacy="incoming", truths=truths).probes
    assert [found["oracle"][name].value for name in TRUTHS] == pytest.approx([0.25, 0.5, 1, 0])
    assert found["oracle"]["truth_likes"].n == 3
    assert not TRUTHS.keys() & found["incoming"].keys()
