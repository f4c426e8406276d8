"""Distillation of a model that ranks at once: the whole ranking, not only who comes first.

The candidates' one-pass scores are those of a Plackett-Luce model (`rl.plackett_luce`). Its divergence
from another one is, by the chain rule, a sum over ranks,

    KL(teacher || student) = E over orders of the teacher [ sum_r KL(teacher(. | left at r) || student(. | left at r)) ]

whose inner terms are exact; orders are drawn from the teacher. (P2 §5 names "logit distillation"; the listwise form is
ours.) On policy the student draws the orders, and P2's Eq. 4 is read with places of a ranking for tokens of a text: the
reward of the ranking, and at each place how much likelier its candidate is to the teacher.

Shapes: B slates, K candidates, G orders a slate.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gr2.distill.opd import opd_loss
from gr2.evaluate.metrics import recall_at_1
from gr2.lm.batches import chunks, epoch_picks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.rank import rank_in_one_pass, scores_at_once
from gr2.lm.train import FitConfig, fit
from gr2.progress import track
from gr2.record import StageFolder
from gr2.reward.batched import ndcg_unless_echo
from gr2.rl.advantage import group_advantages
from gr2.rl.plackett_luce import rank_log_probs, sample_orders
from gr2.types import Slate

ORDERS = 4
"""Orders drawn from the teacher a slate and step."""
NEVER = -1e9
ROLLOUTS = 32
"""Orders drawn from the student a slate and step, on policy."""
BETA = 1.0
"""Weight of log teacher - log student at a place beside the ranking's advantage, as [opd] beta."""

Objective = Callable[[Tensor, Tensor, Sequence[Slate]], Tensor]
"""(B, K) scores of student and teacher, and their slates -> loss."""


def listwise_kl(student_BK: Tensor, teacher_BK: Tensor, orders_BGK: Tensor) -> Tensor:
    """(B,) nats, mean over the orders: KL(teacher || student) of who comes next, summed over the ranks of each."""
    k = orders_BGK.shape[-1]
    # at rank r, whoever stands before r
    gone_KK = torch.ones(k, k, dtype=torch.bool, device=orders_BGK.device).tril(-1)

    def next_BGKK(scores_BK: Tensor) -> Tensor:
        """log P(who comes next) at each rank, candidates as they stand in the order."""
        in_order = scores_BK[:, None].expand(orders_BGK.shape).gather(-1, orders_BGK)
        return in_order[:, :, None].expand(*orders_BGK.shape, k).masked_fill(gone_KK, NEVER).log_softmax(-1)

    teacher, student = next_BGKK(teacher_BK), next_BGKK(student_BK)
    return (teacher.exp() * (teacher - student)).sum((-1, -2)).mean(1)


def off_policy(student_BK: Tensor, teacher_BK: Tensor, slates: Sequence[Slate]) -> Tensor:
    """Mean of `listwise_kl` over orders of the teacher; reads no target."""
    return listwise_kl(student_BK, teacher_BK, sample_orders(teacher_BK, ORDERS)).mean()


def on_policy(student_BK: Tensor, teacher_BK: Tensor, slates: Sequence[Slate]) -> Tensor:
    """P2 Eq. 4 over orders of the student, with the reward of 10_direct (P2 Eq. 7)."""
    orders_BGK = sample_orders(student_BK, ROLLOUTS)
    gains_BK = torch.tensor([s.gains for s in slates], device=student_BK.device)
    advantages_BG = group_advantages(ndcg_unless_echo(orders_BGK, gains_BK))
    ours, theirs = (rank_log_probs(scores_BK, orders_BGK).flatten(0, 1) for scores_BK in (student_BK, teacher_BK))
    return opd_loss(ours, theirs, advantages_BG.flatten(), torch.ones_like(ours), BETA)


@torch.inference_mode()
def one_pass_scores(checkpoint: Checkpoint, slates: Sequence[Slate], label: str | None) -> Tensor:
    """(n, K) scores of the candidates. All slates have one K."""
    parts = track(list(chunks(slates, 64)), label)
    return torch.cat([scores_at_once(checkpoint, part).cpu() for part in parts])


def harm(checkpoint: Checkpoint, slates: Sequence[Slate], teacher_nK: Tensor) -> float:
    """Mean nats a slate that the model is off the teacher, along the teacher's likeliest order."""
    best_n1K = teacher_nK.argsort(-1, descending=True)[:, None]
    return listwise_kl(one_pass_scores(checkpoint, slates, None), teacher_nK, best_n1K).mean().item()


def distill(
    student: Checkpoint,
    slates: Sequence[Slate],
    teacher_nK: Tensor,
    config: FitConfig,
    seed: int,
    work: StageFolder,
    evaluate: Callable[[], dict[str, float]] | None = None,
    objective: Objective = off_policy,
) -> None:
    """Train the student's model in place to rank `slates` as the teacher's scores of them do."""

    def loss_of(picks: list[int]) -> Tensor:
        of = [slates[i] for i in picks]
        student_BK = scores_at_once(student, of)
        return objective(student_BK, teacher_nK[picks].to(student_BK.device), of)

    def batch_of(step: int) -> list[int]:
        return epoch_picks(len(slates), config.batch_size, step, seed)

    fit(student.model, batch_of, loss_of, config, work, phase="distill", seed=seed, evaluate=evaluate)


def watch(student: Checkpoint, slates: Sequence[Slate], teacher_nK: Tensor) -> dict[str, float]:
    """What is looked at while training: how far off the teacher, and R@1."""
    rankings = rank_in_one_pass(student, slates, batch_size=64, label=None)
    return {"harm": harm(student, slates, teacher_nK), "r1": recall_at_1(slates, rankings)}
