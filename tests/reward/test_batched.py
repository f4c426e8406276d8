from itertools import permutations
from math import log2

import pytest
import torch

from gr2.reward.batched import ndcg_unless_echo
from gr2.reward.scores import ndcg


def test_equals_one_by_one_but_for_the_echo():
    gains = [[0, 1, 0, 2], [1, 0, 0, 0], [0, 0, 0, 1]]
    orders = torch.tensor([list(permutations(range(4)))] * 3)
    many = ndcg_unless_echo(orders, torch.tensor(gains))
    for b in range(3):
        for g, order in enumerate(permutations(range(4))):
            echo_of_imperfect = order == (0, 1, 2, 3) and b != 1
            expected = 0.0 if echo_of_imperfect else ndcg(order, gains[b])
            assert many[b, g].item() == pytest.approx(expected, abs=1e-6)


def test_tail_swap_keeps_what_it_inherits():
    """The hack that Eq. 7 lets through: swapping the tail is no echo, and keeps the incoming NDCG."""
    orders = torch.tensor([[[0, 1, 2, 3], [0, 1, 3, 2]]])
    rewards = ndcg_unless_echo(orders, torch.tensor([[0, 1, 0, 0]]))
    assert rewards[0].tolist() == pytest.approx([0.0, 1 / log2(3)])
