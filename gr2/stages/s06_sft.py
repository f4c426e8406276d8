"""Stage 6: supervised fine-tuning on the kept traces, reasoning and answer weighted apart.

Every trace is learned in two ways: its thought and answer as text, and its ranking as an answer at once, scored in one
forward pass after `<think></think>`, so that one model can be asked either way. Nothing of the prompt is learned.

Reads: 01_corpus, 02_sids, 03_midtrain, 04_slates, 05_traces. Writes: a checkpoint, metrics.jsonl.
Source: P1 §3, loss = -lambda_r sum log P(reasoning) - lambda_o sum log P(answer); the answer at once is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds, Slates, Traces
from gr2.errors import UserError
from gr2.evaluate.metrics import recall_at_1
from gr2.lm.batches import epoch_picks, pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.generate import Budget
from gr2.lm.loss import weighted_next_token
from gr2.lm.onepass import candidate_logprobs
from gr2.lm.rank import rank_by_writing, rank_in_one_pass, slate_tree
from gr2.lm.train import FitConfig, fit
from gr2.prompt.render import END, END_THINK, LABELS
from gr2.record import StageFolder, stage_folder
from gr2.rl.plackett_luce import rank_log_probs
from gr2.teach.rationale import ARROW, written
from gr2.types import Slate, Split, Trace

NAME = "06_sft"
READS = ("01_corpus", "02_sids", "03_midtrain", "04_slates", "05_traces")


class Config(BaseModel):
    """Weights of the loss and length of the training."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    lambda_reasoning: float = 0.3
    """Weight of a reasoning token, below lambda_answer (P1)."""
    lambda_answer: float = 1.0
    """Weight of an answer token (P1)."""
    lambda_choice: float = 4.0
    """Weight of a label where the choice is made: after the arrow of a thought, and first in the answer (ours)."""
    direct_share: float = Field(0.5, gt=0, lt=1)
    """Share of each batch that is learned as an answer at once (ours)."""
    opinion_share: float = Field(0.8, ge=0, le=1)
    """Share of the answer-at-once loss that follows the teacher's opinion on all slates, kept and refused alike; the
    rest follows the kept rankings (ours: rejection alone drops the hardest slates)."""
    fit: FitConfig
    """Training."""
    valid_slates: int = 256
    """Validation slates looked at while training (ours)."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The kept traces, ready to be learned as text; the lists have one length."""

    slates: list[Slate]
    orders: Tensor
    """(N, K) the traces' rankings."""
    tokens: list[list[int]]
    """Prompt, thought and answer."""
    weights: list[list[float]]
    """Of the tokens; 0 on the prompt."""


def make_rows(checkpoint: Checkpoint, slates: Slates, traces: Sequence[Trace], config: Config) -> Rows:
    """Render and tokenize. Raises UserError when a thought cites what the prompt does not show."""
    renderer = checkpoint.renderer
    of = [slates.by_id[t.slate_id] for t in traces]
    pairs = list(zip(of, traces, strict=True))
    labels = set(checkpoint.tokenizer.convert_tokens_to_ids(list(LABELS)))
    try:
        encoded = [
            checkpoint.tokenizer(texts, add_special_tokens=False)["input_ids"]
            for texts in (
                [renderer.prompt(s, think=True) for s in of],
                [renderer.thought(s, t.thought.partition(ARROW)[0]) for s, t in pairs],
                [renderer.thought(s, "".join(t.thought.partition(ARROW)[1:])) + END_THINK for s, t in pairs],
                [renderer.answer(written(t.order)) + END for t in traces],
            )
        ]
    except IndexError:
        raise UserError(
            "05_traces: a thought cites history that the prompt does not show; "
            f"lower [traces] cited_history to {renderer.history}, [midtrain] history"
        ) from None
    return Rows(
        slates=of,
        orders=torch.tensor([t.order for t in traces]),
        tokens=[list(chain(*parts)) for parts in zip(*encoded, strict=True)],
        weights=[
            [0.0] * len(prompt)
            + [config.lambda_reasoning] * len(reasons)
            + [config.lambda_choice if token in labels else config.lambda_reasoning for token in choice]
            + [config.lambda_choice]
            + [config.lambda_answer] * (len(answer) - 1)
            for prompt, reasons, choice, answer in zip(*encoded, strict=True)
        ],
    )


def thinking_loss(checkpoint: Checkpoint, rows: Rows, picks: Sequence[int]) -> Tensor:
    """Weighted next-token loss of thought and answer, in nats a weighted token (P1)."""
    tokens = pad_right([rows.tokens[i] for i in picks], checkpoint.tokenizer.pad_token_id)
    weights = pad_right([rows.weights[i] for i in picks], 0.0, torch.float32)
    return weighted_next_token(checkpoint.model, tokens, weights)


def ranking_loss(checkpoint: Checkpoint, rows: Rows, picks: Sequence[int], config: Config) -> Tensor:
    """-log P of the traces' rankings under the one-pass Plackett-Luce policy, in nats a weighted rank (ours)."""
    scores_BK = candidate_logprobs(checkpoint.model, slate_tree(checkpoint, [rows.slates[i] for i in picks]))
    terms_BK = rank_log_probs(scores_BK, rows.orders[list(picks)][:, None])[:, 0]
    weights_K = torch.full((terms_BK.shape[1],), config.lambda_answer)
    weights_K[0] = config.lambda_choice
    return -(terms_BK * weights_K).sum(-1).mean() / weights_K.sum()


def opinion_loss(checkpoint: Checkpoint, slates: Sequence[Slate], opinions_BK: Tensor) -> Tensor:
    """Cross-entropy of who comes first, in nats a slate, against the teacher's probabilities (ours)."""
    logp_BK = candidate_logprobs(checkpoint.model, slate_tree(checkpoint, slates)).log_softmax(-1)
    return -(opinions_BK * logp_BK).sum(-1).mean()


def sft(checkpoint: Checkpoint, slates: Slates, traces: Traces, config: Config, seed: int, work: StageFolder) -> None:
    """Train the checkpoint's model in place. Raises UserError when no trace was kept."""
    kept = traces.kept()
    if not kept:
        raise UserError("05_traces: no trace was kept; raise [traces] attempts")
    rows = make_rows(checkpoint, slates, kept, config)
    opined = [t for t in traces.traces if t.opinion]
    judged = [slates.by_id[t.slate_id] for t in opined]
    opinions = torch.tensor([t.opinion for t in opined])
    share = config.opinion_share if opined else 0.0

    def loss_of(step: int) -> Tensor:
        n_direct = round(config.fit.batch_size * config.direct_share)
        n_opinion = round(n_direct * share)
        loss = thinking_loss(checkpoint, rows, epoch_picks(len(kept), config.fit.batch_size - n_direct, step, seed))
        if n_opinion < n_direct:
            picks = epoch_picks(len(kept), n_direct - n_opinion, step, seed + 1)
            loss = loss + (1 - share) * ranking_loss(checkpoint, rows, picks, config)
        if n_opinion:
            picks = epoch_picks(len(judged), n_opinion, step, seed + 2)
            loss = loss + share * opinion_loss(checkpoint, [judged[i] for i in picks], opinions[picks])
        return loss

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
    slates, traces = Slates.load(run / READS[3]), Traces.load(run / READS[4])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        sft(checkpoint, slates, traces, config, seed, work)
        checkpoint.save(work.path)
        work.counts["traces"] = len(traces.kept())
