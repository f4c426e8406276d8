from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr2.errors import UserError
from gr2.evaluate.metrics import per_slate, recall_at_1
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


@given(st.permutations(range(3)), st.lists(st.integers(0, 2), min_size=3, max_size=3).filter(any))
def test_ndcg_is_the_one_that_is_rewarded(order: list[int], gains: list[int]) -> None:
    assert values(tuple(gains), tuple(order))["N@3"] == pytest.approx(ndcg(order, gains))


def test_values_follow_the_order_of_the_slates() -> None:
    slates = [slate((0, 1), f"u:{i}") for i in (10, 9, 8)]
    rankings = [Ranking(slate_id=s.slate_id, order=(1, 0) if s.slate_id == "u:9" else (0, 1)) for s in slates[::-1]]
    assert per_slate(slates, rankings)["R@1"].tolist() == [0, 1, 0]
    assert recall_at_1(slates, rankings) == pytest.approx(1 / 3)


@pytest.mark.parametrize("order", [(0,), (0, 0), (0, 2), ()])
def test_a_ranking_must_be_a_permutation(order: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="no permutation"):
        per_slate([slate((0, 1))], [Ranking(slate_id="u:1", order=order)])


def test_every_slate_needs_a_ranking_and_a_positive() -> None:
    with pytest.raises(UserError, match="slate u:1"):
        per_slate([slate((0, 1))], [])
    with pytest.raises(UserError, match="no candidate has a gain"):
        per_slate([slate((0, 0))], [Ranking(slate_id="u:1", order=(0, 1))])
