from math import log2

import pytest

from gr2.reward.scores import auc, ndcg, promotion, rank_of


def test_rank_is_one_based_and_promotion_counts_places_over_k():
    assert rank_of((2, 0, 1), 1) == 3
    assert promotion((2, 0, 1, 3), target=2) == (3 - 1) / 4
    assert promotion((1, 2, 3, 0), target=0) == (1 - 4) / 4
    assert promotion((0, 1, 2, 3), target=1) == 0


def test_auc_counts_pairs_in_the_right_order():
    # positives 1 and 3 at ranks 2 and 3, negatives 0 and 2 at ranks 1 and 4: pairs right are (1,2) and (3,2)
    assert auc((0, 1, 3, 2), gains=(0, 1, 0, 2)) == 2 / 4


def test_ndcg_by_hand():
    # gain 2 at rank 2 and gain 1 at rank 3, ideal has them at ranks 1 and 2
    value = (3 / log2(3) + 1 / log2(4)) / (3 / log2(2) + 1 / log2(3))
    assert ndcg((0, 1, 2), gains=(0, 2, 1)) == pytest.approx(value)


@pytest.mark.parametrize("gains", [(0, 0), (1, 1)])
def test_auc_needs_a_pair(gains):
    with pytest.raises(ValueError, match="positive and a negative"):
        auc((0, 1), gains)


def test_ndcg_needs_a_positive():
    with pytest.raises(ValueError, match="positive"):
        ndcg((0, 1), (0, 0))
