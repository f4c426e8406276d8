"""Stage 10: reasoning distilled away - a second RL pass that answers without thinking, in one forward pass.

From the RL checkpoint, the model learns to rank at once: its candidates' log-probabilities are read as a
Plackett-Luce policy, groups of whole rankings are drawn from it, and their rewards train it with exact
log-probabilities. Rollouts need no decoding, so a group can be large, and every ranking is valid.

Reads: 01_corpus, 02_sids, 04_slates, 08_rl. Writes: a checkpoint, metrics.jsonl.
Source: P2 §5 ("a second RL pass from the RL checkpoint that answers without thinking"); the one-pass policy is ours.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds, Slates
from gr2.evaluate.metrics import recall_at_1
from gr2.lm.batches import epoch_picks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.onepass import candidate_logprobs
from gr2.lm.rank import rank_in_one_pass, slate_tree
from gr2.lm.train import FitConfig, fit
from gr2.record import StageFolder, stage_folder
from gr2.reward.conditional import conditional_rewards
from gr2.rl.advantage import group_advantages, informative
from gr2.rl.plackett_luce import log_prob, sample_orders
from gr2.types import Slate, Split

NAME = "10_direct"
READS = ("01_corpus", "02_sids", "04_slates", "08_rl")


class Config(BaseModel):
    """Size and length of the second RL pass."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rollouts: int = 32
    """Rankings drawn a slate, G (ours: they cost no decoding)."""
    alpha: float = 0.2
    """Worth of moving the target up at all, or keeping it first (P3: 0.2)."""
    fit: FitConfig
    """Training."""
    valid_slates: int = 512
    """Validation slates looked at while training (ours)."""


def direct(checkpoint: Checkpoint, slates: Slates, config: Config, seed: int, work: StageFolder) -> None:
    """Train the checkpoint's model in place."""
    train, valid = slates.split(Split.TRAIN), slates.split(Split.VALID)[: config.valid_slates]

    def batch_of(step: int) -> list[Slate]:
        return [train[i] for i in epoch_picks(len(train), config.fit.batch_size, step, seed)]

    def loss_of(batch: list[Slate]) -> Tensor:
        scores_BK = candidate_logprobs(checkpoint.model, slate_tree(checkpoint, batch))
        return policy_loss(scores_BK, batch, config.rollouts, config.alpha)

    def evaluate() -> dict[str, float]:
        return {"r1_direct": recall_at_1(valid, rank_in_one_pass(checkpoint, valid, batch_size=64, label="valid"))}

    fit(checkpoint.model, batch_of, loss_of, config.fit, work, phase="direct", seed=seed, evaluate=evaluate)


def policy_loss(scores_BK: Tensor, slates: Sequence[Slate], rollouts: int, alpha: float) -> Tensor:
    """-mean of advantage x log-probability over rollouts of slates whose rewards differ.

    One update a rollout, so the importance ratio is 1 and no clip is needed.
    """
    orders_BGK = sample_orders(scores_BK, rollouts)
    rewards_BG = conditional_rewards(orders_BGK, torch.tensor([s.target for s in slates]), alpha)
    live = informative(rewards_BG)
    advantages = group_advantages(rewards_BG)[live]
    return -(advantages * log_prob(scores_BK, orders_BGK)[live]).sum() / max(1, advantages.numel())


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    slates, checkpoint = Slates.load(run / READS[2]), Checkpoint.load(run / READS[3], corpus, ids)
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        direct(checkpoint, slates, config, seed, work)
        checkpoint.save(work.path)
