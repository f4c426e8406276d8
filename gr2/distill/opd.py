"""On-policy distillation: the student writes, the teacher says of every token how likely it finds it (P2 Eq. 4).

    L = -E[ min(rho A, clip(rho) A) ] + beta KL(student || teacher)

One update a rollout, so rho is 1 and the clip idle. The reverse KL is taken on the tokens that the student wrote, as a
reward of each: beta (log teacher - log student), no later token paid for an earlier one. So a teacher need only give
log-probabilities of given tokens. Forward KL needs its whole distribution, and reads given texts.

Shapes: B rollouts, T tokens; a value at t is about token t + 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gr2.lm.batches import pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import prompt_tokens
from gr2.prompt.parse import parse
from gr2.prompt.render import END, PAD
from gr2.rl.sample import sample
from gr2.types import Answer, Slate


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """What a student wrote about some slates, G answers each, those of a slate side by side."""

    tokens: Tensor
    """(B, T) prompt and answer, padded on the right."""
    written: Tensor
    """(B, T) 1.0 on the tokens that the student wrote, its end token among them."""
    answers: list[Answer]


@torch.no_grad()
def roll_out(checkpoint: Checkpoint, slates: Sequence[Slate], group: int, longest: int) -> Rollouts:
    """`group` free answers a slate, drawn at temperature 1 from torch's generator, of at most `longest` tokens."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    stop, pad = (tokenizer.convert_tokens_to_ids(t) for t in (END, PAD))
    asked = prompt_tokens(checkpoint, slates, think=True)
    training = model.training
    model.eval()
    answers = sample(model, asked, group, longest=longest, temperature=1.0, stops=[stop], pad=pad)
    model.train(training)
    prompts = [p for p in asked for _ in range(group)]
    texts = tokenizer.batch_decode(answers, skip_special_tokens=False)
    sizes = [len(s.candidates) for s in slates for _ in range(group)]
    return Rollouts(
        tokens=pad_right([p + a for p, a in zip(prompts, answers, strict=True)], pad),
        written=pad_right(
            [[0.0] * len(p) + [1.0] * len(a) for p, a in zip(prompts, answers, strict=True)], 0.0, torch.float32
        ),
        answers=[parse(text, k) for text, k in zip(texts, sizes, strict=True)],
    )


def next_logprobs(model: Any, tokens_BT: Tensor) -> Tensor:
    """(B, T - 1, V) log-probabilities of the next token."""
    return model(input_ids=tokens_BT[:, :-1].to(model.device)).logits.float().log_softmax(-1)


def of_tokens(logp_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
    """(B, T - 1) log-probability of the token that does come next."""
    return logp_BTV.gather(-1, tokens_BT[:, 1:, None].to(logp_BTV.device))[..., 0]


def opd_loss(student_BT: Tensor, teacher_BT: Tensor, advantages_B: Tensor, counts_BT: Tensor, beta: float) -> Tensor:
    """Minus the mean over counted tokens of (advantage + beta (log teacher - log student)) x log student (P2 Eq. 4).

    The log-probabilities are of the tokens that the student drew; only the last factor has a gradient. Without
    advantages it is plain on-policy distillation: its expected gradient is beta times that of the reverse KL.
    """
    worth_BT = advantages_B[:, None] + beta * (teacher_BT - student_BT.detach())
    return -(worth_BT * student_BT * counts_BT).sum() / counts_BT.sum()


def reverse_kl(student_BT: Tensor, teacher_BT: Tensor, counts_BT: Tensor) -> float:
    """Nats a token: mean of log student - log teacher over counted tokens that the student drew; for the log."""
    return float(((student_BT - teacher_BT) * counts_BT).sum() / counts_BT.sum())


def forward_kl(student_BTV: Tensor, teacher_BTV: Tensor, counts_BT: Tensor) -> Tensor:
    """Nats a counted token of KL(teacher || student) of who comes next, on texts that neither need have written."""
    kl_BT = (teacher_BTV.exp() * (teacher_BTV - student_BTV)).sum(-1)
    return (kl_BT * counts_BT).sum() / counts_BT.sum()
