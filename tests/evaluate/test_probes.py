import numpy as np
import pytest
from test_metrics import slate

from gr2.evaluate import probes
from gr2.reward.scores import auc, promotion
from gr2.types import AnswerStatus, Ranking


def ranking(*order: int, slate_id: str = "u:1", status: AnswerStatus = AnswerStatus.VALID) -> Ranking:
    return Ranking(slate_id=slate_id, order=order, status=status)


ECHO, REVERSE, TAIL = ranking(0, 1, 2, 3, 4), ranking(4, 3, 2, 1, 0), ranking(0, 1, 2, 4, 3)


def test_echo_and_its_disguise() -> None:
    assert probes.echo_share([ECHO, REVERSE, TAIL, TAIL]) == 1 / 4
    assert probes.tail_only_share([ECHO, REVERSE, TAIL, TAIL]) == 2 / 4


def test_tau_by_hand() -> None:
    assert probes.tau_to_incoming([ECHO]) == pytest.approx(1)
    assert probes.tau_to_incoming([REVERSE]) == pytest.approx(-1)
    # one of the 10 pairs is swapped: (9 - 1) / 10
    assert probes.tau_to_incoming([TAIL]) == pytest.approx(0.8)
    # 2 0 1: of 3 pairs (2,0) and (2,1) are swapped: (1 - 2) / 3
    assert probes.tau_to_incoming([ranking(2, 0, 1)]) == pytest.approx(-1 / 3)


def test_moves_count_from_and_to() -> None:
    counts = probes.moves([ranking(2, 0, 1), ranking(2, 1, 0)])
    assert counts.tolist() == [[0, 1, 1], [0, 1, 1], [2, 0, 0]]
    assert (counts.sum(0) == 2).all()
    assert (counts.sum(1) == 2).all()


def test_where_targets_stand() -> None:
    assert probes.target_positions([slate((0, 1, 0)), slate((0, 2, 1)), slate((1, 0, 0))]).tolist() == [1, 2, 0]


def test_status_shares() -> None:
    rankings = [ECHO, ECHO, ranking(0, 1, status=AnswerStatus.PARTIAL), ranking(0, 1, status=AnswerStatus.DUPLICATE)]
    assert probes.status_shares(rankings) == {"duplicate": 0.25, "partial": 0.25, "valid": 0.5}
    assert probes.probes(rankings)["invalid_share"] == 0.5


def test_agreement_when_shuffled() -> None:
    first = [ranking(0, 1, 2, slate_id="a"), ranking(0, 1, 2, slate_id="b")]
    second = [ranking(2, 1, 0, slate_id="b"), ranking(0, 1, 2, slate_id="a"), ranking(0, 1, slate_id="c")]
    agreement = probes.shuffle_agreement(first, second)
    assert agreement == pytest.approx({"same_first": 1 / 2, "tau": (1 - 1) / 2})


def test_a_tail_swap_keeps_what_it_inherits() -> None:
    slates = [slate((1, 0, 0, 0)), slate((0, 0, 1, 0))]
    # AUC: unchanged where the target is first, one of three pairs lost where it is third
    assert probes.tail_swap_profit(slates, lambda order, s: auc(order, s.gains)) == pytest.approx((0 - 1 / 3) / 2)
    assert probes.tail_swap_profit(slates, lambda order, s: promotion(order, s.target)) == pytest.approx(-1 / 4 / 2)


def test_every_probe_is_a_number() -> None:
    assert all(np.isfinite(v) for v in probes.probes([ECHO, REVERSE]).values())
