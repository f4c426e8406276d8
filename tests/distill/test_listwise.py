"""The divergence of whole rankings by hand and by enumeration; a student takes over what its teacher prefers."""

from dataclasses import replace
from itertools import permutations
from math import log

import pytest
import shop
import torch

from gr2.distill.listwise import BETA, distill, harm, listwise_kl, off_policy, on_policy, one_pass_scores
from gr2.lm.rank import rank_in_one_pass
from gr2.lm.train import FitConfig
from gr2.record import StageFolder
from gr2.rl.plackett_luce import log_prob
from gr2.types import Split


def test_of_two_candidates_it_is_the_divergence_of_who_comes_first():
    """Once the first is known, so is the second."""
    teacher, student = torch.tensor([[log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    by_hand = 0.75 * log(0.75 / 0.5) + 0.25 * log(0.25 / 0.5)
    for order in ([0, 1], [1, 0]):
        assert listwise_kl(student, teacher, torch.tensor([[order]])).item() == pytest.approx(by_hand, abs=1e-6)


def test_over_all_orders_of_the_teacher_it_is_the_divergence_of_the_two_policies():
    torch.manual_seed(0)
    teacher, student = torch.randn(1, 4), torch.randn(1, 4)
    orders = torch.tensor(list(permutations(range(4))))[None]
    theirs, ours = log_prob(teacher, orders)[0], log_prob(student, orders)[0]
    each = torch.stack([listwise_kl(student, teacher, orders[:, i : i + 1])[0] for i in range(24)])
    assert (theirs.exp() * each).sum().item() == pytest.approx((theirs.exp() * (theirs - ours)).sum().item(), abs=1e-5)


def test_it_is_zero_where_they_agree_and_blind_to_a_constant():
    scores = torch.tensor([[1.0, -2.0, 0.5]])
    assert listwise_kl(scores + 7, scores, torch.tensor([[[2, 0, 1]]])).item() == pytest.approx(0, abs=1e-6)


def test_its_gradient_leads_to_the_teacher():
    """Of who comes first: student less teacher probability; here 1/2 - 3/4 and 1/2 - 1/4."""
    student = torch.zeros(1, 2, requires_grad=True)
    listwise_kl(student, torch.tensor([[log(3.0), 0.0]]), torch.tensor([[[0, 1]]])).sum().backward()
    assert student.grad[0].tolist() == pytest.approx([-0.25, 0.25], abs=1e-6)


def of_gains(*gains):
    """A slate of so many candidates."""
    (slate,) = shop.slates(1, Split.TRAIN)
    names = slate.candidates[: len(gains)]
    return replace(slate, candidates=names, scores=(0.0,) * len(gains), gains=gains)


def test_on_policy_where_all_rankings_earn_the_same_its_gradient_is_that_of_the_reverse_kl():
    """Two positives: every order has NDCG 1. KL(student || teacher) of who comes first, over two places."""
    student = torch.tensor([[0.5, 0.0]], requires_grad=True)
    teacher = torch.tensor([[log(3.0), 0.0]])
    torch.manual_seed(0)
    sum(on_policy(student, teacher, [of_gains(1, 1)]) for _ in range(400)).backward()
    exact = student.detach().clone().requires_grad_(True)
    reverse = (exact.softmax(-1) * (exact.log_softmax(-1) - teacher.log_softmax(-1))).sum()
    (BETA * reverse / 2).backward()
    torch.testing.assert_close(student.grad / 400, exact.grad, atol=5e-3, rtol=0)
    assert exact.grad.abs().max() > 0.03


def test_on_policy_with_a_teacher_that_agrees_the_reward_alone_teaches():
    student = torch.zeros(1, 3, requires_grad=True)
    torch.manual_seed(0)
    on_policy(student, torch.zeros(1, 3), [of_gains(0, 0, 1)]).backward()
    assert student.grad[0, 2] < 0 < student.grad[0, 0]
    assert student.grad.sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("objective", [off_policy, on_policy])
def test_a_student_takes_over_the_teachers_order(objective, tmp_path):
    """The teacher prefers the user's department, then late candidates."""
    train, test = shop.slates(600, Split.TRAIN), shop.slates(100, Split.TEST)

    def preferred(slates):
        return torch.stack([4.0 * torch.tensor(s.gains) + torch.arange(shop.K) for s in slates]).float()

    student = shop.checkpoint()
    before = harm(student, test, preferred(test))
    config = FitConfig(steps=120, batch_size=32, learning_rate=1e-2, warmup_steps=10)
    work = StageFolder(path=tmp_path, resumed=False)
    distill(student, train, preferred(train), config, 0, work, objective=objective)
    assert harm(student, test, preferred(test)) < 0.5 * before
    rankings = rank_in_one_pass(student, test, batch_size=64, label=None)
    assert sum(r.order[0] == s.target for r, s in zip(rankings, test, strict=True)) > 80


def test_scores_are_those_of_ranking():
    student, slates = shop.checkpoint(), shop.slates(3, Split.TEST)
    order = one_pass_scores(student, slates, None).argsort(-1, descending=True).tolist()
    assert order == [list(r.order) for r in rank_in_one_pass(student, slates, batch_size=2, label=None)]
