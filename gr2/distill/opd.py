"""On-policy distillation: the student writes, the teacher says of every token how likely it finds it (P2 Eq. 4).

    L = -E[ min(rho A, clip(rho) A) ] + beta KL(student || teacher)

One update a rollout, so rho is 1 and the clip idle. The reverse KL is taken on the tokens that the student wrote, as a
reward of each: beta (log teacher - log student), no later token paid for an earlier one. So a teacher need only give
log-probabilities of given tokens. Forward KL needs its whole distribution, and reads given texts.

Shapes: B rollouts, A tokens of the longest of them, T tokens of a whole text, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gr2.lm.batches import pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import longest_rollout, prompt_tokens
from gr2.prompt.parse import parse
from gr2.prompt.render import END, PAD
from gr2.rl.draft import answer_draft
from gr2.rl.sample import sample
from gr2.types import Answer, Slate


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """What a student wrote about some slates, G answers each, those of a slate side by side; all lists are B long."""

    slates: list[Slate]
    """That each is about."""
    prompts: list[list[int]]
    """The tokens that the student read."""
    written: list[list[int]]
    """Those that it wrote, its end token among them."""
    answers: list[Answer]

    @property
    def counts(self) -> Tensor:
        """(B, A) 1.0 on written tokens."""
        return pad_right([[1.0] * len(w) for w in self.written], 0.0, torch.float32)


@torch.no_grad()
def roll_out(checkpoint: Checkpoint, slates: Sequence[Slate], group: int, thought: int) -> Rollouts:
    """`group` free answers a slate, drawn at temperature 1 from torch's generator, with at most `thought` tokens of
    thought."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    stop, pad = (tokenizer.convert_tokens_to_ids(t) for t in (END, PAD))
    asked = prompt_tokens(checkpoint, slates, think=True)
    training = model.training
    model.eval()
    longest, draft = longest_rollout(slates, thought), answer_draft(tokenizer)
    written = sample(model, asked, group, longest=longest, temperature=1.0, stops=[stop], pad=pad, draft=draft)
    model.train(training)
    of = [s for s in slates for _ in range(group)]
    texts = tokenizer.batch_decode(written, skip_special_tokens=False)
    return Rollouts(
        slates=of,
        prompts=[p for p in asked for _ in range(group)],
        written=written,
        answers=[parse(text, len(s.candidates)) for text, s in zip(texts, of, strict=True)],
    )


def written_logprobs(model: Any, prompts: Sequence[Sequence[int]], written: Sequence[Sequence[int]]) -> Tensor:
    """(B, A) log-probability of every written token behind its prompt; 0 beyond the last."""
    rows = [[*p, *w] for p, w in zip(prompts, written, strict=True)]
    tokens_BT = pad_right(rows, 0).to(model.device)
    places = [(b, len(p) + t) for b, (p, w) in enumerate(zip(prompts, written, strict=True)) for t in range(len(w))]
    line, place = torch.tensor(places, device=model.device).T
    hidden_BTD = model.model(input_ids=tokens_BT[:, :-1]).last_hidden_state
    logp_MV = model.lm_head(hidden_BTD[line, place - 1]).float().log_softmax(-1)
    logp_M = logp_MV.gather(-1, tokens_BT[line, place, None])[:, 0]
    return pad_sequence(list(logp_M.split([len(w) for w in written])), batch_first=True)


def next_logprobs(model: Any, tokens_BT: Tensor) -> Tensor:
    """(B, T - 1, V) log-probabilities of the next token."""
    return model(input_ids=tokens_BT[:, :-1].to(model.device)).logits.float().log_softmax(-1)


def opd_loss(student_BA: Tensor, teacher_BA: Tensor, advantages_B: Tensor, counts_BA: Tensor, beta: float) -> Tensor:
    """Minus the mean over counted tokens of (advantage + beta (log teacher - log student)) x log student (P2 Eq. 4).

    The log-probabilities are of the tokens that the student drew; only the last factor has a gradient. Without
    advantages it is plain on-policy distillation: its expected gradient is beta times that of the reverse KL.
    """
    worth_BA = advantages_B[:, None] + beta * (teacher_BA - student_BA.detach())
    return -(worth_BA * student_BA * counts_BA).sum() / counts_BA.sum()


def reverse_kl(student_BA: Tensor, teacher_BA: Tensor, counts_BA: Tensor) -> float:
    """Nats a token: mean of log student - log teacher over counted tokens that the student drew; for the log."""
    return float(((student_BA - teacher_BA) * counts_BA).sum() / counts_BA.sum())


def forward_kl(student_BTV: Tensor, teacher_BTV: Tensor, counts_BT: Tensor) -> Tensor:
    """Nats a counted token of KL(teacher || student) of who comes next, on texts that neither need have written."""
    kl_BT = (teacher_BTV.exp() * (teacher_BTV - student_BTV)).sum(-1)
    return (kl_BT * counts_BT).sum() / counts_BT.sum()
