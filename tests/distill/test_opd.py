"""On-policy distillation by hand: log-probabilities, divergences, the direction of the gradient, rollouts."""

from math import log

import pytest
import shop
import torch

from gr2.distill.opd import forward_kl, next_logprobs, opd_loss, reverse_kl, roll_out, written_logprobs
from gr2.types import Split

SLATES = shop.slates(2, Split.TRAIN)
TEACHER, STUDENT = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.25, 0.5, 0.25]).log()


def test_the_loss_by_hand():
    """Tokens of two rollouts, the second one token long; beta 1/2.

    Worths: 1 + (-1 - -2) / 2 = 3/2 and 1 + (-3 - -1) / 2 = 0; then -2 + (-1 - -4) / 2 = -1/2.
    """
    student, teacher = torch.tensor([[-2.0, -1.0], [-4.0, 0.0]]), torch.tensor([[-1.0, -3.0], [-1.0, 0.0]])
    counts = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    loss = opd_loss(student, teacher, torch.tensor([1.0, -2.0]), counts, 0.5)
    assert loss.item() == pytest.approx(-(1.5 * -2 + 0 * -1 + -0.5 * -4) / 3)
    assert reverse_kl(student, teacher, counts) == pytest.approx((-1 + 2 - 3) / 3)


def test_without_advantages_its_expected_gradient_is_that_of_the_reverse_kl():
    """Every token once, weighted by how often the student would draw it."""
    ours, exact = (torch.nn.Parameter(STUDENT.clone()) for _ in range(2))
    logp = ours.log_softmax(-1)
    opd_loss(logp[:, None], TEACHER[:, None], torch.zeros(3), logp.detach().exp()[:, None], 2.0).backward()
    logp = exact.log_softmax(-1)
    (2.0 * (logp.exp() * (logp - TEACHER)).sum()).backward()
    assert ours.grad.tolist() == pytest.approx(exact.grad.tolist(), abs=1e-6)


def test_a_better_answer_becomes_likelier_and_a_word_that_the_teacher_would_not_say_less_likely():
    logp = STUDENT[None].clone().requires_grad_()
    opd_loss(logp, STUDENT[None], torch.tensor([1.0]), torch.ones(1, 3), 1.0).backward()
    assert (logp.grad < 0).all()  # descending raises each
    logp = STUDENT[None].clone().requires_grad_()
    opd_loss(logp, TEACHER[None], torch.tensor([0.0]), torch.ones(1, 3), 1.0).backward()
    assert (logp.grad < 0).tolist() == [[True, False, False]]


def test_forward_kl_by_hand():
    student, teacher = STUDENT.expand(1, 2, 3), TEACHER.expand(1, 2, 3)
    by_hand = 0.7 * log(0.7 / 0.25) + 0.2 * log(0.2 / 0.5) + 0.1 * log(0.1 / 0.25)
    assert forward_kl(student, teacher, torch.tensor([[1.0, 0.0]])).item() == pytest.approx(by_hand)


def test_rollouts_hold_the_prompt_and_what_was_written():
    checkpoint = shop.checkpoint()
    torch.manual_seed(0)
    drawn = roll_out(checkpoint, SLATES, 3, 6)
    assert [s.slate_id for s in drawn.slates] == [s.slate_id for s in SLATES for _ in range(3)]
    assert len(drawn.prompts) == len(drawn.written) == len(drawn.answers) == 6
    for slate, prompt, written, counts in zip(
        drawn.slates, drawn.prompts, drawn.written, drawn.counts.tolist(), strict=True
    ):
        assert checkpoint.tokenizer.decode(prompt) == checkpoint.renderer.prompt(slate, think=True)
        assert 1 <= len(written) <= 6 + shop.K + 2
        assert counts == [1.0] * len(written) + [0.0] * (len(counts) - len(written))


def test_rollouts_differ_within_a_slate_and_repeat_with_the_generator():
    checkpoint = shop.checkpoint()
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn.append(roll_out(checkpoint, SLATES, 3, 6).written)
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_log_probabilities_of_what_was_written_are_the_models():
    """Each behind its own prompt, of another length; 0 beyond the last token."""
    checkpoint = shop.checkpoint()
    logp = written_logprobs(checkpoint.model, [[5, 7], [6, 8, 10]], [[9, 11, 12], [13]])
    assert logp.shape == (2, 3)
    for prompt, written, found in (([5, 7], [9, 11, 12], logp[0]), ([6, 8, 10], [13], logp[1, :1])):
        whole = torch.tensor([[*prompt, *written]])
        theirs = next_logprobs(checkpoint.model, whole)[0].gather(-1, whole[0, 1:, None])[:, 0]
        assert found.tolist() == pytest.approx(theirs[len(prompt) - 1 :].tolist(), abs=1e-5)
    assert logp[1, 1:].tolist() == [0, 0]
