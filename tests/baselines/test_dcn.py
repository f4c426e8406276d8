import numpy as np
import torch
from ranked import odd_ones, products, recall

from gr2.advice.dcn import Cross, Dcn
from gr2.baselines.dcn import GRID, fit

POINT = GRID[-1]


def test_a_cross_layer_by_hand():
    cross = Cross(2)
    with torch.no_grad():
        cross.linear.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        cross.linear.bias.copy_(torch.tensor([0.5, -0.5]))
    crossed = cross(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0]))
    assert crossed.tolist() == [2 * (1 * 1 + 2 * 10 + 0.5) + 1, 3 * (3 * 1 + 4 * 10 - 0.5) + 10]


def test_each_cross_raises_the_degree_by_one():
    """With one feature, weight 1 and no bias: x, then x * x + x, then x * (x * x + x) + x * x + x."""
    cross = Cross(1)
    torch.nn.init.ones_(cross.linear.weight)
    torch.nn.init.zeros_(cross.linear.bias)
    x0 = torch.tensor([3.0])
    once = cross(x0, x0)
    assert (once.item(), cross(x0, once).item()) == (3 * 3 + 3, 3 * (3 * 3 + 3) + 3 * 3 + 3)


def test_a_candidate_is_scored_alone():
    torch.manual_seed(0)
    network = Dcn(4, crosses=2).eval()
    x, real = torch.randn(3, 6, 4), torch.ones(3, 6, dtype=torch.bool)
    scores, order = network(x, real), torch.randperm(6)
    torch.testing.assert_close(network(x[:, order], real), scores[:, order])
    x[:, 1:] = torch.randn(3, 5, 4)
    torch.testing.assert_close(network(x, real)[:, 0], scores[:, 0])


def test_learns_a_product_of_features():
    test = products(400, seed=2)
    fitted = fit(products(3000, seed=0), POINT, 0, products(300, seed=1))
    assert recall(test, np.broadcast_to(-np.arange(5), (400, 5))) < 0.3
    assert recall(test, fitted.scores(test)) > 0.9


def test_cannot_learn_the_odd_one_out():
    """Either sign is the target's half of the time, so at best half of the slates are right."""
    test = odd_ones(400, seed=2)
    fitted = fit(odd_ones(3000, seed=0), POINT, 0, odd_ones(300, seed=1))
    assert recall(test, fitted.scores(test)) < 0.6
