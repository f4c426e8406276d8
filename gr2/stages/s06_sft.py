"""Stage 6: supervised fine-tuning on the kept traces, reasoning and answer weighted apart.

A trace is learned as text: its thought, the candidate that the thought arrives at, and the answer. Nothing of the
prompt is learned. Beside it the model learns what to believe: the probability that each candidate comes first, read
in one forward pass from the candidates' ids, at once (after `<think></think>`), and from their labels where a thought
has given its reasons (after the arrow). So one model can be asked either way, and its thoughts arrive at what it
believes.

Reads: 01_corpus, 02_sids, 03_midtrain, 05_traces. Writes: a checkpoint, metrics.jsonl.
Source: P1 §3, loss = -lambda_r sum log P(reasoning) - lambda_o sum log P(answer); the beliefs are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from gr2.advice.advisor import advice_of
from gr2.artifacts import Corpus, SemanticIds, Slates, Traces
from gr2.errors import UserError
from gr2.evaluate.metrics import recall_at_1
from gr2.lm.batches import epoch_picks
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.keep import keeper
from gr2.lm.onepass import hidden_states, read_candidates, read_words
from gr2.lm.rank import rank_by_writing, rank_in_one_pass, scores_at_once, slate_tree
from gr2.lm.train import FitConfig, fit
from gr2.prompt.render import END, END_THINK
from gr2.record import StageFolder, stage_folder
from gr2.teach.rationale import ARROW
from gr2.types import Slate, Split, Trace

NAME = "06_sft"
READS = ("01_corpus", "02_sids", "03_midtrain", "05_traces")


class Config(BaseModel):
    """Weights of the loss and length of the training."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    lambda_reasoning: float = Field(0.3, ge=0)
    """Weight of a reasoning token, below lambda_answer (P1)."""
    lambda_answer: float = Field(1.0, gt=0)
    """Weight of an answer token (P1)."""
    direct_share: float = Field(0.5, gt=0, lt=1)
    """Share of each batch that is answered at once (ours)."""
    opinion_share: float = Field(0.8, ge=0, le=1)
    """Share of a belief that is the advice, by which the teacher judges; the rest is the candidate that was taken
    (ours: rejection alone drops the hardest slates)."""
    fit: FitConfig
    """Training."""
    valid_slates: int = Field(256, ge=0)
    """Validation slates looked at while training (ours)."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The kept traces, ready to be learned as text; the lists have one length."""

    slates: list[Slate]
    tokens: list[list[int]]
    """Prompt, thought and answer."""
    stems: list[int]
    """How many of the tokens are prompt and thought as far as the arrow, where the choice is made."""
    weights: list[list[float]]
    """Of the tokens; 0 on the prompt."""


def make_rows(checkpoint: Checkpoint, slates: Slates, traces: Sequence[Trace], config: Config) -> Rows:
    """Render and tokenize. Raises UserError when a thought cites what the prompt does not show."""
    renderer = checkpoint.renderer
    of = [slates.by_id[t.slate_id] for t in traces]
    parts = [t.thought.partition(f"{ARROW} ") for t in traces]
    pairs = list(zip(of, parts, strict=True))
    try:
        encoded = [
            checkpoint.tokenizer(texts, add_special_tokens=False)["input_ids"]
            for texts in (
                [renderer.prompt(s, think=True) for s in of],
                [renderer.thought(s, reasons + arrow) for s, (reasons, arrow, _) in pairs],
                [renderer.thought(s, choice) + END_THINK for s, (_, _, choice) in pairs],
                [renderer.answer(t.order) + END for t in traces],
            )
        ]
    except IndexError:
        raise UserError(
            "05_traces: a thought cites history that the prompt does not show; "
            f"lower [traces] cited_history to {renderer.history}, [midtrain] history"
        ) from None
    whole = list(zip(*encoded, strict=True))
    return Rows(
        slates=of,
        tokens=[list(chain(*parts)) for parts in whole],
        stems=[len(prompt) + len(reasons) for prompt, reasons, _, _ in whole],
        weights=[
            [0.0] * len(prompt)
            + [config.lambda_reasoning] * len(reasons)
            + [config.lambda_answer] * (len(choice) + len(answer))
            for prompt, reasons, choice, answer in whole
        ],
    )


def thinking_loss(checkpoint: Checkpoint, rows: Rows, picks: Sequence[int], beliefs_BK: Tensor) -> Tensor:
    """Weighted next-token loss of thought and answer, in nats a weighted token (P1), and where the reasons end the
    cross-entropy, in nats a slate, of writing the label of each candidate as likely as the belief has it (ours); both
    from one forward pass."""
    model, slates = checkpoint.model, [rows.slates[i] for i in picks]
    tree = slate_tree(checkpoint, [rows.tokens[i] for i in picks], slates, [rows.stems[i] for i in picks])
    hidden_BTD = hidden_states(model, tree)
    words = read_words(model, hidden_BTD, tree, [rows.weights[i] for i in picks])
    logp_BK = read_candidates(model, hidden_BTD, tree)
    # Not normalised over the candidates: what is left for other words makes thoughts go round in circles (docs/log.md).
    return words - (beliefs_BK.to(logp_BK.device) * logp_BK).sum(-1).mean()


def beliefs(slates: Sequence[Slate], share: float) -> Tensor:
    """(B, K) the probability that each candidate comes first: `share` of it as the advice has it, the rest what was
    taken; all of it where there is no advice."""
    taken_BK = one_hot(torch.tensor([s.target for s in slates]), len(slates[0].candidates)).float()
    shares_B1 = torch.tensor([[share if s.advice else 0.0] for s in slates])
    return shares_B1 * advice_of(slates).softmax(-1) + (1 - shares_B1) * taken_BK


def belief_loss(scores_BK: Tensor, beliefs_BK: Tensor) -> Tensor:
    """Cross-entropy of who comes first, in nats a slate (ours)."""
    return cross_entropy(scores_BK, beliefs_BK.to(scores_BK.device))


def sft(checkpoint: Checkpoint, slates: Slates, traces: Traces, config: Config, seed: int, work: StageFolder) -> None:
    """Train the checkpoint's model in place. Raises UserError when no trace was kept, or a batch
    would hold slates of one kind only."""
    kept = traces.kept()
    if not kept:
        raise UserError("05_traces: no trace was kept; raise [traces] attempts")
    rows = make_rows(checkpoint, slates, kept, config)
    train = slates.split(Split.TRAIN)
    n_direct = round(config.fit.batch_size * config.direct_share)
    if not 0 < n_direct < config.fit.batch_size:
        of = f"direct_share = {config.direct_share} of fit.batch_size = {config.fit.batch_size}"
        raise UserError(f"[sft] {of} is all or nothing; raise fit.batch_size")
    forgetting = keeper(checkpoint)

    def loss_of(step: int) -> Tensor:
        picks = epoch_picks(len(kept), config.fit.batch_size - n_direct, step, seed)
        asked = [train[i] for i in epoch_picks(len(train), n_direct, step, seed + 1)]
        told = [beliefs(of, config.opinion_share) for of in ([rows.slates[i] for i in picks], asked)]
        at_once = belief_loss(scores_at_once(checkpoint, asked), told[1])
        return thinking_loss(checkpoint, rows, picks, told[0]) + at_once + forgetting(asked)

    valid = slates.split(Split.VALID)[: config.valid_slates]
    fit(
        checkpoint.model,
        lambda step: step,
        loss_of,
        config.fit,
        work,
        phase="sft",
        seed=seed,
        evaluate=lambda: valid_metrics(checkpoint, valid),
    )


def valid_metrics(checkpoint: Checkpoint, slates: Sequence[Slate]) -> dict[str, float]:
    """R@1 of the model thinking and at once, and the share of valid free answers, on validation slates."""
    if not slates:
        return {}
    written = rank_by_writing(checkpoint, slates, constrained=False, budget=Budget(), label=None)
    at_once = rank_in_one_pass(checkpoint, slates, batch_size=64, label=None)
    return {
        "r1_thinking": recall_at_1(slates, written),
        "r1_direct": recall_at_1(slates, at_once),
        "valid_share": sum(r.status == "valid" for r in written) / len(written),
    }


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    checkpoint = Checkpoint.load(run / READS[2], corpus, ids)
    slates, traces = Slates.load(run / READS[3]), Traces.load(run / READS[3])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        sft(checkpoint, slates, traces, config, seed, work)
        checkpoint.save(work.path)
        work.counts["traces"] = len(traces.kept())
