"""Stage 10: reasoning distilled away - a second RL pass that answers without thinking, in one forward pass.

From the RL checkpoint, the model learns to rank at once: its candidates' log-probabilities are read as a
Plackett-Luce policy, groups of whole rankings are drawn from it, and their rewards train it with exact
log-probabilities. Rollouts need no decoding, so a group can be large, and every ranking is valid. The teacher holds the
policy: beta times its distance from the teacher's opinion of who comes first is added, as in P2 Eq. 4.

Reads: 01_corpus, 02_sids, 04_slates, 05_traces, 08_rl. Writes: a checkpoint, metrics.jsonl.
Source: P2 §5 ("a second RL pass from the RL checkpoint that answers without thinking"), Eq. 4 and Eq. 7. The one-pass
policy is ours, and the direction of the KL (teacher to student; the student's distribution is exact here).
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import kl_div

from gr2.artifacts import Corpus, SemanticIds, Slates, Traces
from gr2.evaluate.metrics import recall_at_1
from gr2.lm.batches import epoch_picks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.onepass import candidate_logprobs
from gr2.lm.rank import direct_tree, rank_in_one_pass
from gr2.lm.train import FitConfig, fit
from gr2.record import StageFolder, stage_folder
from gr2.reward.batched import ndcg_unless_echo
from gr2.rl.advantage import group_advantages, informative
from gr2.rl.plackett_luce import log_prob, sample_orders
from gr2.types import Slate, Split

NAME = "10_direct"
READS = ("01_corpus", "02_sids", "04_slates", "05_traces", "08_rl")

RECENT = 20
"""Steps that the logged reward is a mean of."""


class Config(BaseModel):
    """Size and length of the second RL pass."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rollouts: int = 32
    """Rankings drawn a slate, G (ours: they cost no decoding)."""
    beta: float = 10.0
    """Weight of the distance from the teacher beside the policy loss (P2 Eq. 4; value ours)."""
    fit: FitConfig
    """Training."""
    valid_slates: int = 512
    """Validation slates looked at while training (ours)."""


def direct(
    checkpoint: Checkpoint, slates: Slates, opinions: Mapping[str, Tensor], config: Config, seed: int, work: StageFolder
) -> None:
    """Train the checkpoint's model in place. `opinions`: slate id -> (K,) the teacher's probabilities, where known."""
    train, valid = slates.split(Split.TRAIN), slates.split(Split.VALID)[: config.valid_slates]
    rewards: list[float] = []

    def batch_of(step: int) -> list[Slate]:
        return [train[i] for i in epoch_picks(len(train), config.fit.batch_size, step, seed)]

    def loss_of(batch: list[Slate]) -> Tensor:
        scores_BK = candidate_logprobs(checkpoint.model, direct_tree(checkpoint, batch))
        loss, reward = policy_loss(scores_BK, torch.tensor([s.gains for s in batch]), config.rollouts)
        rewards.append(reward)
        known = [i for i, s in enumerate(batch) if s.slate_id in opinions]
        if not known:
            return loss
        opinions_BK = torch.stack([opinions[batch[i].slate_id] for i in known])
        return loss + config.beta * distance(scores_BK[known], opinions_BK)

    def evaluate() -> dict[str, float]:
        recent = rewards[-RECENT:]
        rankings = rank_in_one_pass(checkpoint, valid, batch_size=64, label=None)
        return {"r1_direct": recall_at_1(valid, rankings), "reward": sum(recent) / len(recent)}

    fit(
        checkpoint.model,
        batch_of,
        loss_of,
        config.fit,
        work,
        phase="direct",
        seed=seed,
        evaluate=evaluate,
        evaluations=10,
    )


def policy_loss(scores_BK: Tensor, gains_BK: Tensor, rollouts: int) -> tuple[Tensor, float]:
    """-mean of advantage x log-probability over rollouts of slates whose rewards differ, and the mean reward.

    One update a rollout, so the importance ratio is 1 and no clip is needed.
    """
    orders_BGK = sample_orders(scores_BK, rollouts)
    rewards_BG = ndcg_unless_echo(orders_BGK, gains_BK)
    live = informative(rewards_BG)
    advantages = group_advantages(rewards_BG)[live]
    loss = -(advantages * log_prob(scores_BK, orders_BGK)[live]).sum() / max(1, advantages.numel())
    return loss, rewards_BG.mean().item()


def distance(scores_BK: Tensor, opinions_BK: Tensor) -> Tensor:
    """Mean KL(teacher || student), in nats, between their beliefs about who comes first."""
    return kl_div(scores_BK.log_softmax(-1), opinions_BK, reduction="batchmean")


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    slates, checkpoint = Slates.load(run / READS[2]), Checkpoint.load(run / READS[4], corpus, ids)
    opinions = {t.slate_id: torch.tensor(t.opinion) for t in Traces.load(run / READS[3]).traces if t.opinion}
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        direct(checkpoint, slates, opinions, config, seed, work)
        checkpoint.save(work.path)
