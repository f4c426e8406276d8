import math

import pytest
import torch
import torch.nn.functional as F

from gr2.retrieve import cross_entropy
from gr2.retrieve.cross_entropy import catalogue_cross_entropy


@pytest.mark.parametrize("piece", [1, 3 * 50, 10**6])
def test_loss_and_gradient_are_those_of_the_plain_way(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of events a piece holds: one, three, all."""
    monkeypatch.setattr(cross_entropy, "PIECE", piece)
    torch.manual_seed(0)
    states, items = torch.randn(20, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True)
    targets = torch.randint(50, (20,))
    plain = F.cross_entropy(states @ items.T, targets)
    expected = torch.autograd.grad(3 * plain, (states, items))
    ours = catalogue_cross_entropy(states, items, targets)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(3 * ours, (states, items)), expected)


def test_by_hand() -> None:
    # scores 0, ln 3: the softmax is 1/4, 3/4
    states, items = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[0.0], [math.log(3)]])
    loss = catalogue_cross_entropy(states, items, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert states.grad is not None
    assert states.grad.item() == pytest.approx(0.75 * math.log(3))


def test_bfloat16_is_near() -> None:
    torch.manual_seed(0)
    states, items, targets = torch.randn(64, 16), 0.2 * torch.randn(300, 16), torch.randint(300, (64,))
    half = catalogue_cross_entropy(states.bfloat16(), items.bfloat16(), targets)
    assert half.item() == pytest.approx(F.cross_entropy(states @ items.T, targets).item(), abs=0.01)
