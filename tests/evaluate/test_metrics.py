from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.errors import UserError
from gr2.evaluate import metrics
from gr2.evaluate.metrics import MEASURES, check, per_slate, recall_at_1, through_ir_measures
from gr2.reward.scores import ndcg
from gr2.types import Ranking, Slate, Split


def slate(gains: tuple[int, ...], slate_id: str = "u:1") -> Slate:
    k = len(gains)
    return Slate(
        slate_id=slate_id,
        user_id=slate_id.split(":")[0],
        split=Split.TEST,
        time=0,
        history=("h",),
        candidates=tuple(f"c{i}" for i in range(k)),
        scores=tuple(float(-i) for i in range(k)),
        gains=gains,
    )


def values(gains: tuple[int, ...], order: tuple[int, ...]) -> dict[str, float]:
    result = per_slate([slate(gains)], [Ranking(slate_id="u:1", order=order)])
    return {name: float(v[0]) for name, v in result.items()}


def test_one_positive_at_rank_two() -> None:
    assert values((0, 0, 1, 0, 0, 0), (0, 2, 1, 3, 4, 5)) == pytest.approx(
        {"R@1": 0, "R@3": 1, "R@5": 1, "N@3": 1 / log2(3), "N@5": 1 / log2(3), "MRR": 1 / 2}
    )


def test_one_positive_at_rank_four() -> None:
    assert values((1, 0, 0, 0, 0, 0), (5, 4, 3, 0, 2, 1)) == pytest.approx(
        {"R@1": 0, "R@3": 0, "R@5": 1, "N@3": 0, "N@5": 1 / log2(5), "MRR": 1 / 4}
    )


def test_first_is_perfect() -> None:
    assert set(values((0, 1, 0), (1, 0, 2)).values()) == {1.0}


def test_a_conversion_is_worth_three_clicks() -> None:
    # gains 2^2 - 1 = 3 and 2^1 - 1 = 1; the click comes first, the conversion second
    result = values((2, 1, 0), (1, 0, 2))
    assert result["N@3"] == pytest.approx((1 + 3 / log2(3)) / (3 + 1 / log2(3)))
    assert result["R@1"] == pytest.approx(1 / 2)


def test_three_positives_by_hand() -> None:
    # gains 1, 2 and 1 are worth 1, 3 and 1; they stand at ranks 1, 4 and 5 of 6
    result = values((1, 2, 1, 0, 0, 0), (0, 3, 4, 1, 2, 5))
    ideal_3 = 3 + 1 / log2(3) + 1 / log2(4)
    assert result == pytest.approx(
        {
            "R@1": 1 / 3,  # one of three positives; 1/3 is as much as one place can hold
            "R@3": 1 / 3,
            "R@5": 3 / 3,
            "N@3": 1 / ideal_3,
            "N@5": (1 + 3 / log2(5) + 1 / log2(6)) / ideal_3,
            "MRR": 1,
        }
    )


def test_one_conversion_counts_as_one_positive() -> None:
    # alone, its worth of 3 cancels out
    assert values((0, 0, 2, 0), (0, 2, 1, 3)) == values((0, 0, 1, 0), (0, 2, 1, 3))


@st.composite
def ranked(draw: st.DrawFn) -> tuple[list[Slate], list[Ranking]]:
    """Slates of unlike length with gains 0 to 2, each ranked."""
    slates, rankings = [], []
    for i in range(draw(st.integers(1, 5))):
        gains = draw(st.lists(st.integers(0, 2), min_size=1, max_size=9).filter(any))
        slates.append(slate(tuple(gains), f"u:{i}"))
        rankings.append(Ranking(slate_id=f"u:{i}", order=tuple(draw(st.permutations(range(len(gains)))))))
    return slates, rankings


@settings(max_examples=60, deadline=None)
@given(ranked())
def test_all_at_once_is_what_ir_measures_finds(made: tuple[list[Slate], list[Ranking]]) -> None:
    ours, theirs = per_slate(*made), through_ir_measures(*made)
    assert ours.keys() == theirs.keys() == MEASURES.keys()
    for name, values_n in ours.items():
        np.testing.assert_allclose(values_n, theirs[name], rtol=0, atol=1e-12)


def test_parts_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    slates = [slate((0, 1, 0) if i % 3 else (1, 0), f"u:{i}") for i in range(7)]
    rankings = [Ranking(slate_id=s.slate_id, order=tuple(range(len(s.gains)))) for s in slates]
    whole = per_slate(slates, rankings)
    monkeypatch.setattr(metrics, "CHUNK", 2)
    assert {n: v.tolist() for n, v in per_slate(slates, rankings).items()} == {n: v.tolist() for n, v in whole.items()}


def test_a_wrong_value_is_found_out() -> None:
    made = [slate((0, 1))], [Ranking(slate_id="u:1", order=(0, 1))]
    check(*made, per_slate(*made))
    with pytest.raises(RuntimeError, match="N@3: not what ir-measures"):
        check(*made, per_slate(*made) | {"N@3": np.array([0.64])})


@given(st.permutations(range(3)), st.lists(st.integers(0, 2), min_size=3, max_size=3).filter(any))
def test_ndcg_is_the_one_that_is_rewarded(order: list[int], gains: list[int]) -> None:
    assert values(tuple(gains), tuple(order))["N@3"] == pytest.approx(ndcg(order, gains))


def test_values_follow_the_order_of_the_slates() -> None:
    slates = [slate((0, 1), f"u:{i}") for i in (10, 9, 8)]
    rankings = [Ranking(slate_id=s.slate_id, order=(1, 0) if s.slate_id == "u:9" else (0, 1)) for s in slates[::-1]]
    assert per_slate(slates, rankings)["R@1"].tolist() == [0, 1, 0]
    assert recall_at_1(slates, rankings) == pytest.approx(1 / 3)


@pytest.mark.parametrize("order", [(0,), (0, 0), (0, 2), (), (0, -1), (0, 1, 2), (0, 1, 1)])
def test_a_ranking_must_be_a_permutation(order: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="no permutation"):
        per_slate([slate((0, 1))], [Ranking(slate_id="u:1", order=order)])


def test_every_slate_needs_a_ranking_and_a_positive() -> None:
    with pytest.raises(UserError, match="slate u:1: no ranking"):
        per_slate([slate((0, 1))], [])
    with pytest.raises(UserError, match="no candidate has a gain"):
        per_slate([slate((0, 0))], [Ranking(slate_id="u:1", order=(0, 1))])


def test_a_slate_ranked_twice_or_never_asked_is_refused() -> None:
    asked, ranking = [slate((0, 1))], Ranking(slate_id="u:1", order=(0, 1))
    with pytest.raises(UserError, match="slate u:1: ranked twice"):
        per_slate(asked, [ranking, Ranking(slate_id="u:1", order=(1, 0))])
    with pytest.raises(UserError, match="slate z:1: ranked, but not among"):
        per_slate(asked, [ranking, Ranking(slate_id="z:1", order=(1, 0))])
