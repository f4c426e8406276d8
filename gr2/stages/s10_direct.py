"""Stage 10: reasoning distilled away - a second RL pass that answers at once, and after the model's own thoughts.

From the RL checkpoint, the model learns to rank in one forward pass: its candidates' log-probabilities are read as a
Plackett-Luce policy, groups of whole rankings are drawn from it, and their rewards train it with exact
log-probabilities. Rollouts need no decoding, so a group can be large, and every ranking is valid. The teacher holds the
policy: beta times its distance from what advice and target say of who comes first is added, as in P2 Eq. 4.

Half of each batch is ranked at once, half where the model's own reasons end: on-policy, so that a thought of its own
leads it to what the teacher believes, and not only a teacher's thought does. One model then serves both ways. After the
pass, the advice of held-out slates hears a SASRec that is told the gaps between events, and where there are practice
slates, networks that learned from these; what each voice counts (`lm.rank`) the validation slates say. A model that is
to be served without advice is not shown any from here on, and only learns from it. Where the run has made a compressor,
slates hold as long a history as it reads, and prompts show short contexts.

Reads: 01_corpus, 02_sids, 04_slates, 05_traces, 08_rl, 09_compress. Writes: a checkpoint, slates.parquet (with the
advice that is served; features.safetensors beside it, where the model reads these), the advisor (advisor.safetensors,
advisor.json), metrics.jsonl.
Source: P2 §5 ("a second RL pass from the RL checkpoint that answers without thinking"), Eq. 4 and Eq. 7. The one-pass
policy and the half after thoughts are ours, and so is the direction of the KL (teacher to student; the student's
distribution is exact here).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn.functional import kl_div

from gr2.advice.advisor import Advisor, rounded
from gr2.advice.conditional_logit import HARDLY
from gr2.advice.conditional_logit import fit as fit_logit
from gr2.advice.features import SCORES, Knowledge
from gr2.advice.network import Scale
from gr2.advice.practised import Practised, learn_practised
from gr2.advice.sample import Sample
from gr2.advice.sequence import Sequences, fit_sequences
from gr2.artifacts import Corpus, SemanticIds, Slates, load_text_vectors, practice_slates
from gr2.compress.context import META as COMPRESSOR
from gr2.compress.context import Compressor, with_whole_history
from gr2.evaluate.metrics import recall_at_1
from gr2.evaluate.propensity import Examination, weights_of
from gr2.lm.batches import chunks, epoch_picks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.feature_reader import attach_new
from gr2.lm.generate import Budget, reason
from gr2.lm.keep import keeper
from gr2.lm.onepass import hidden_states, read_words
from gr2.lm.rank import (
    rank_by_thinking,
    rank_in_one_pass,
    read_voices,
    scores_at_once,
    slate_tree,
    voices_at_once,
    weighed,
)
from gr2.lm.train import FitConfig, fit
from gr2.prompt.gaps import BLIND
from gr2.prompt.render import THINK
from gr2.record import StageFolder, stage_folder
from gr2.retrieve.sasrec import pre_ranker_config
from gr2.reward.batched import ndcg_unless_echo
from gr2.reward.clicks import Worth, as_they_are, worth_of
from gr2.rl.advantage import group_advantages, informative
from gr2.rl.plackett_luce import log_prob, sample_orders
from gr2.stages.s06_sft import beliefs
from gr2.types import Slate, Split

NAME = "10_direct"
READS = ("01_corpus", "02_sids", "04_slates", "05_traces", "08_rl", "09_compress")

ADVISED = 0.6
"""Share of a belief that is the advice, the teacher here; the rest is the candidate that was taken."""
LEAST_TRUST = 0.01
"""Least weight of the model's own words where they are weighed against advice."""
THIRD = 2_000
"""Added to the run's seed, so that neither the pre-ranker nor a rival's SASRec has these random numbers."""
RECENT = 20
"""Steps that the logged reward is a mean of."""


class Config(BaseModel):
    """Size and length of the second RL pass."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rollouts: int = Field(32, ge=2)
    """Rankings drawn a slate, G (ours: they cost no decoding)."""
    beta: float = Field(10.0, ge=0)
    """Weight of the distance from the teacher beside the policy loss (P2 Eq. 4; value ours)."""
    advice: bool = True
    """Whether advice is shown and heard. If not, what is served is the model alone, which then learns from it and sees
    none (ours)."""
    features: bool | None = None
    """Whether the model reads the features of each candidate (`lm.feature_reader`). Left out: no (ours)."""
    thoughts: int = Field(6000, ge=1)
    """Training slates of which the model's own reasons are written down, once, to rank after them (ours)."""
    thinking_share: float = Field(0.5, gt=0, lt=1)
    """Share of each batch that is ranked after the model's own reasons; the rest is ranked at once (ours)."""
    click_clip: float | None = Field(None, ge=1)
    """Largest weight of a click in the reward where slates are logged: 1 / the chance that its place is looked at.
    Left out: clicks weigh alike (ours; the evaluation's clip is 10)."""
    fit: FitConfig
    """Training."""
    valid_slates: int = Field(512, ge=1)
    """Validation slates looked at while training (ours)."""

    @model_validator(mode="after")
    def _a_batch_has_both(self) -> "Config":
        if not 0 < round(self.fit.batch_size * self.thinking_share) < self.fit.batch_size:
            raise ValueError(
                f"thinking_share = {self.thinking_share} of fit.batch_size = {self.fit.batch_size} is all or nothing; "
                "raise fit.batch_size"
            )
        return self


def direct(
    checkpoint: Checkpoint,
    slates: Slates,
    config: Config,
    seed: int,
    work: StageFolder,
    worth: Worth = as_they_are,
) -> None:
    """Train the checkpoint's model in place. `worth`: what the clicks of training slates count."""
    train, valid = slates.split(Split.TRAIN), slates.split(Split.VALID)[: config.valid_slates]
    drawn = np.random.default_rng(seed).permutation(len(train))[: config.thoughts]
    reasoned = [train[i] for i in drawn]
    texts, _ = reason(checkpoint, reasoned, budget=Budget(), label="own reasons")
    n_thinking = round(config.fit.batch_size * config.thinking_share)
    rewards: list[float] = []
    forgetting = keeper(checkpoint)

    def loss_of_scores(scores_BK: Tensor, batch: Sequence[Slate]) -> Tensor:
        gains_BK, weights_B1 = worth(batch)
        loss, reward = policy_loss(scores_BK, gains_BK, config.rollouts, weights_B1)
        rewards.append(reward)
        return loss + config.beta * distance(scores_BK, beliefs(batch, ADVISED))

    def loss_of(step: int) -> Tensor:
        asked = [train[i] for i in epoch_picks(len(train), config.fit.batch_size - n_thinking, step, seed)]
        picks = epoch_picks(len(reasoned), n_thinking, step, seed + 1)
        of = [reasoned[i] for i in picks]
        after_reasons, words = behind_reasons(checkpoint, [texts[i] for i in picks], of)
        ranking = loss_of_scores(scores_at_once(checkpoint, asked), asked) + loss_of_scores(after_reasons, of)
        return ranking + words + forgetting(asked)

    def evaluate() -> dict[str, float]:
        recent = rewards[-RECENT:]
        at_once = rank_in_one_pass(checkpoint, valid, batch_size=64, label=None)
        thinking = rank_by_thinking(checkpoint, valid, budget=Budget(), label=None)
        return {
            "r1_direct": recall_at_1(valid, at_once),
            "r1_thinking": recall_at_1(valid, thinking),
            "reward": sum(recent) / len(recent),
        }

    fit(
        checkpoint.model,
        lambda step: step,
        loss_of,
        config.fit,
        work,
        phase="direct",
        seed=seed,
        evaluate=evaluate,
        evaluations=5,
    )


def behind_reasons(
    checkpoint: Checkpoint, texts: Sequence[Sequence[int]], slates: Sequence[Slate]
) -> tuple[Tensor, Tensor]:
    """(B, K) scores where the model's own reasons end, and the next-token loss of these reasons, in nats a token:
    without it, it forgets how to write them, since nothing else in this pass asks for words."""
    think: int = checkpoint.tokenizer.convert_tokens_to_ids(THINK)
    weights = [[0.0] * (start := text.index(think) + 1) + [1.0] * (len(text) - start) for text in texts]
    tree = slate_tree(checkpoint, texts, slates)
    hidden_BTD = hidden_states(checkpoint.model, tree)
    scores_BK = weighed(checkpoint, read_voices(checkpoint, hidden_BTD, tree, texts, slates))
    return scores_BK, read_words(checkpoint.model, hidden_BTD, tree, weights)


def policy_loss(
    scores_BK: Tensor, gains_BK: Tensor, rollouts: int, weights_B1: Tensor | float = 1.0
) -> tuple[Tensor, float]:
    """-mean of advantage x log-probability over rollouts of slates whose rewards differ, and the mean reward.

    `weights_B1`: the slates'. One update a rollout, so the importance ratio is 1 and no clip is needed.
    """
    orders_BGK = sample_orders(scores_BK, rollouts)
    rewards_BG = ndcg_unless_echo(orders_BGK, gains_BK.to(scores_BK.device))
    live = informative(rewards_BG)
    weights_B1 = torch.as_tensor(weights_B1, device=scores_BK.device)
    advantages = (weights_B1 * group_advantages(rewards_BG))[live]
    loss = -(advantages * log_prob(scores_BK, orders_BGK)[live]).sum() / max(1, advantages.numel())
    return loss, rewards_BG.mean().item()


def distance(scores_BK: Tensor, beliefs_BK: Tensor) -> Tensor:
    """Mean KL(beliefs || student), in nats, between what both hold of who comes first."""
    return kl_div(scores_BK.log_softmax(-1), beliefs_BK.to(scores_BK.device), reduction="batchmean")


def weigh(checkpoint: Checkpoint, slates: Sequence[Slate], weights_S: np.ndarray | None = None) -> Checkpoint:
    """The checkpoint with what advice and item head count beside its words where they together best say who is taken:
    the weights of a conditional logit over the voices, of advice only where the model is shown any. For slates that the
    model never learned from: it knows the training slates' targets from mid-training and would be trusted too much.
    What the head says of anyone is mostly taken off: advice knows what is popular better."""
    with torch.inference_mode():
        x_SK4 = torch.cat([voices_at_once(checkpoint, part).cpu() for part in chunks(slates, 64)]).double().numpy()
    targets_S = np.array([s.target for s in slates])
    weights_4 = fit_logit(x_SK4, np.ones(x_SK4.shape[:2], bool), targets_S, HARDLY, weights_S)
    words, advice, items, anyone = weights_4.tolist()
    return replace(checkpoint, words=max(LEAST_TRUST, words), advice=max(0.0, advice), items=items, anyone=anyone)


def hear(
    advisor: Advisor,
    slates: Slates,
    sequence: Sequences,
    practised: Practised | None,
    examined: Examination | None,
) -> tuple[Advisor, Slates]:
    """The advisor with those beside the three, and the slates with its advice; training slates keep theirs, since the
    others were trained on their targets."""
    valid = slates.split(Split.VALID)
    hearing = advisor.hearing(sequence, practised, valid, weights_of(valid, examined))
    said = iter(hearing.hear([s for s in slates.slates if s.split is not Split.TRAIN]))
    return hearing, Slates(slates=tuple(s if s.split is Split.TRAIN else next(said) for s in slates.slates))


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    advised, checkpoint = Slates.load(run / READS[3]), Checkpoint.load(run / READS[4], corpus, ids)
    examined, train = Examination.load(run / READS[2]), advised.split(Split.TRAIN)
    worth = worth_of(train, examined, config.click_clip, "direct")
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        advisor = Advisor.load(run / READS[3], corpus, ids.codes)
        practice = practice_slates(run / READS[2]) if config.advice else ()
        knowledge = advisor.knowledge
        if config.features or practice:
            # Training slates must not see their own events counted, as an advisor that was loaded does.
            knowledge = rounded(Knowledge.of(corpus, seed, load_text_vectors(run / READS[1]), ids.codes))
        if config.features:
            scale = Scale.of(Sample.of(train, knowledge).without(SCORES))
            advisor = replace(advisor, knowledge=knowledge, scale=scale)
            advised = Slates(slates=advisor.tell(advised.slates))
            attach_new(checkpoint.model, len(scale.mean_F), seed)
        if (run / READS[5] / COMPRESSOR).exists():
            compressor = Compressor.load(run / READS[5], corpus, ids)
            checkpoint = checkpoint.with_compressor(compressor)
            # Slates hold the newest events only ([slates] history_cap); the compressor reads more, here as in serving.
            advised = Slates(slates=tuple(with_whole_history(advised.slates, corpus, compressor.limits.newest)))
        if not config.advice:
            checkpoint = checkpoint.alone()
        direct(checkpoint, advised, config, seed, work, worth)
        if config.advice and advised.split(Split.VALID) and train:
            config_of_first = pre_ranker_config(run / READS[2])
            sequence = fit_sequences(corpus, config_of_first, seed + THIRD, knowledge.vectors, BLIND)
            practised = learn_practised(train, practice, knowledge, seed) if practice else None
            advisor, advised = hear(advisor, advised, sequence, practised, examined)
        if valid := advised.split(Split.VALID):
            checkpoint = weigh(checkpoint, valid, weights_of(valid, examined))
        work.counts |= {name: round(weight, 4) for name, weight in checkpoint.voices.items()}
        checkpoint.save(work.path)
        advisor.save(work.path)
        advised.save(work.path)
