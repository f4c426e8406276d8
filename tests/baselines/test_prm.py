import numpy as np
import torch
from ranked import odd_ones, recall, sample

from gr2.baselines.prm import GRID, Prm, fit

POINT = GRID[-1]


def network(positions: int = 6) -> Prm:
    torch.manual_seed(0)
    return Prm(4, positions, blocks=2).eval()


def real(s: int, k: int) -> torch.Tensor:
    return torch.ones(s, k, dtype=torch.bool)


def test_sees_the_whole_list():
    """What DCN-v2 and LambdaMART cannot learn (test_dcn, test_lambdamart): the candidate that is unlike the others."""
    test = odd_ones(400, seed=2)
    fitted = fit(odd_ones(3000, seed=0), POINT, 0, odd_ones(300, seed=1))
    assert recall(test, fitted.scores(test)) > 0.95


def test_learns_a_feature_that_carries_the_answer():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 5, 3))
    made = sample(x, x[:, :, 1].argmax(axis=1))
    inside, outside = made.at(np.arange(2000) < 1500), made.at(np.arange(2000) >= 1500)
    fitted = fit(inside, POINT, 0, outside)
    assert recall(outside, np.broadcast_to(-np.arange(5), (500, 5))) < 0.3
    assert recall(outside, fitted.scores(outside)) > 0.9


def test_learns_from_the_incoming_position_alone():
    nothing = sample(np.zeros((600, 5, 1)), np.full(600, 3))
    fitted = fit(nothing, POINT, 0, nothing)
    assert recall(nothing, fitted.scores(nothing)) == 1


def test_without_positions_the_order_shown_does_not_matter():
    model = network()
    torch.nn.init.zeros_(model.position.weight)
    x, order = torch.randn(3, 6, 4), torch.randperm(6)
    torch.testing.assert_close(model(x[:, order], real(3, 6)), model(x, real(3, 6))[:, order], rtol=1e-4, atol=1e-5)


def test_a_neighbour_matters_and_padding_does_not():
    model = network()
    x = torch.randn(2, 6, 4)
    shown = real(2, 6)
    shown[:, 4:] = False
    scores = model(x, shown)
    other = x.clone()
    other[:, 4:] = 9.0
    torch.testing.assert_close(model(other, shown)[:, :4], scores[:, :4])
    torch.testing.assert_close(model(x[:, :4], real(2, 4)), scores[:, :4], rtol=1e-4, atol=1e-5)
    other[:, 3] = 9.0
    assert (model(other, shown)[:, 0] - scores[:, 0]).abs().min() > 1e-4


def test_a_slate_longer_than_any_of_training_is_scored():
    assert network(positions=3)(torch.randn(2, 6, 4), real(2, 6)).isfinite().all()
