"""On-policy distillation by hand: log-probabilities, divergences, the direction of the gradient, rollouts."""

from math import log

import pytest
import shop
import torch

from gr2.distill.opd import forward_kl, next_logprobs, of_tokens, opd_loss, reverse_kl, roll_out
from gr2.types import Split

SLATES = shop.slates(2, Split.TRAIN)
TEACHER, STUDENT = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.25, 0.5, 0.25]).log()


def test_log_probabilities_are_of_the_tokens_that_come_next():
    logp = torch.tensor([[[0.1, 0.9], [0.3, 0.7]]]).log()
    assert of_tokens(logp, torch.tensor([[0, 1, 0]])).exp().tolist()[0] == pytest.approx([0.9, 0.3])


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
    assert len(drawn.tokens) == len(drawn.written) == len(drawn.answers) == 6
    for i, (tokens, written) in enumerate(zip(drawn.tokens, drawn.written, strict=True)):
        read = checkpoint.renderer.prompt(SLATES[i // 3], think=True)
        first = int(written.argmax())
        assert checkpoint.tokenizer.decode(tokens[:first]) == read
        assert 1 <= written.sum() <= 6
        assert (written[first : first + int(written.sum())] == 1).all()


def test_rollouts_differ_within_a_slate_and_repeat_with_the_generator():
    checkpoint = shop.checkpoint()
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn.append(roll_out(checkpoint, SLATES, 3, 6).tokens)
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0][0], drawn[0][1])


def test_log_probabilities_of_rollouts_are_the_models():
    checkpoint = shop.checkpoint()
    tokens = torch.tensor([[5, 7, 9, 11]])
    logp = of_tokens(next_logprobs(checkpoint.model, tokens), tokens)
    logits = checkpoint.model(tokens).logits
    assert logp[0, 1].item() == pytest.approx(logits[0, 1].log_softmax(-1)[9].item(), abs=1e-5)
