import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau
from test_metrics import slate

from gr2.evaluate import probes
from gr2.evaluate.arrays import orders_of
from gr2.reward.scores import ndcg
from gr2.types import AnswerStatus, Ranking


def ranking(*order: int, slate_id: str = "u:1", status: AnswerStatus = AnswerStatus.VALID) -> Ranking:
    return Ranking(slate_id=slate_id, order=order, status=status)


ECHO, REVERSE, TAIL = ranking(0, 1, 2, 3, 4), ranking(4, 3, 2, 1, 0), ranking(0, 1, 2, 4, 3)
GAINS = (0, 1, 0, 0, 0)


def of(*rankings: Ranking, gains: tuple[int, ...] = GAINS) -> dict[str, list[float]]:
    slates = [slate((*gains, 0, 0, 0, 0, 0)[: len(r.order)]) for r in rankings]
    return {name: values.tolist() for name, values in probes.of_each(slates, rankings).items()}


def test_echo_and_its_disguise() -> None:
    found = of(ECHO, REVERSE, TAIL)
    assert found["echo_share"] == [1, 0, 0]
    assert found["tail_only_share"] == [0, 0, 1]
    assert found["first_stays_share"] == [1, 0, 1]


def test_tau_by_hand() -> None:
    # the last turns one of its 10 pairs: (9 - 1) / 10
    assert of(ECHO, REVERSE, TAIL)["tau_to_incoming"] == pytest.approx([1, -1, 0.8])
    # 2 0 1: of 3 pairs (2,0) and (2,1) are turned: (1 - 2) / 3
    assert of(ranking(2, 0, 1))["tau_to_incoming"] == pytest.approx([-1 / 3])


def test_slates_of_unlike_length_do_not_disturb_each_other() -> None:
    # 1 0 turns the only pair of two; 0 1 2 4 3 one of ten
    found = of(ranking(1, 0), TAIL, ranking(0, 1))
    assert found["tau_to_incoming"] == pytest.approx([-1, 0.8, 1])
    assert found["echo_share"] == [0, 0, 1]


@given(st.lists(st.permutations(range(6)), min_size=2, max_size=2))
def test_tau_is_that_of_scipy(orders: list[list[int]]) -> None:
    ours, theirs = (orders_of([ranking(*o)], np.array([6])) for o in orders)
    expected = kendalltau(np.argsort(orders[0]), np.argsort(orders[1])).statistic
    assert probes.tau(ours, theirs, np.array([6])) == pytest.approx([expected])


def test_the_profit_of_a_tail_swap_is_the_inherited_ndcg() -> None:
    # the target keeps place 2; the echo itself would earn nothing
    inherited = ndcg(TAIL.order, GAINS)
    assert of(ECHO, REVERSE, TAIL)["tail_swap_profit"] == pytest.approx([0, 0, inherited])
    # with the target first an echo is perfect and earns as much
    assert of(TAIL, gains=(1, 0, 0, 0, 0))["tail_swap_profit"] == pytest.approx([0])


def test_moves_count_from_and_to() -> None:
    counts = probes.moves([ranking(2, 0, 1), ranking(2, 1, 0)])
    assert counts.tolist() == [[0, 1, 1], [0, 1, 1], [2, 0, 0]]
    assert (counts.sum(0) == 2).all()
    assert (counts.sum(1) == 2).all()


def test_where_first_items_and_targets_came_in() -> None:
    assert probes.target_at([slate((0, 1, 0)), slate((0, 2, 1)), slate((1, 0, 0))]) == pytest.approx([1 / 3, 2 / 3, 0])
    assert probes.first_from([ranking(2, 0, 1), ranking(2, 1, 0)]) == [0, 0, 1]


def test_invalid_repaired_and_tied() -> None:
    fallen_back = ranking(0, 1, 2, status=AnswerStatus.PARTIAL)
    mended = ranking(1, 0, 2, status=AnswerStatus.DUPLICATE)
    found = of(ranking(0, 1, 2), fallen_back, mended, Ranking(slate_id="u:1", order=(0, 1, 2), tied=2))
    assert found["invalid_share"] == [0, 1, 1, 0]
    assert found["repaired_share"] == [0, 0, 1, 0]
    assert found["tied_share"] == [0, 0, 0, 1]


def test_agreement_when_shuffled() -> None:
    first = [ranking(0, 1, 2, slate_id="a"), ranking(0, 1, 2, slate_id="b")]
    second = [ranking(2, 1, 0, slate_id="b"), ranking(0, 1, 2, slate_id="a"), ranking(0, 1, slate_id="c")]
    agreement = probes.shuffle_agreement(first, second)
    assert agreement["shuffle_same_first"].tolist() == [1, 0]
    assert agreement["shuffle_tau"] == pytest.approx([1, -1])
