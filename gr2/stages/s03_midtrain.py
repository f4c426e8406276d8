"""Stage 3: a language model learns what the semantic ids mean.

The nano model starts from the base that ships with gr2, which knows how to read a slate and no item; its BPE is made
here. A pretrained language model brings its own. The vocabulary grows by one token a code a level, and
all weights learn next-token prediction on the alignment tasks. The figure to watch is nats per item: the loss of the
next event on validation events, summed over the codes of an id (uniform: log of the catalogue size).

Reads: 01_corpus, 02_sids. Writes: a checkpoint, metrics.jsonl. Source: P1 §2.4, P2; task `slate` is ours.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds
from gr2.lm.alignment import AlignmentTasks, Mix, Row, sentence
from gr2.lm.batches import chunks, pad_right
from gr2.lm.checkpoint import Checkpoint, assemble
from gr2.lm.loss import weighted_next_token
from gr2.lm.nano import NanoConfig, new_model, train_tokenizer
from gr2.lm.pretrain import start_from_base
from gr2.lm.pretrained import learn_tokens, load_pretrained
from gr2.lm.train import FitConfig, fit
from gr2.lm.vocabulary import grow
from gr2.prompt.render import HISTORY, MAX_LABELS
from gr2.record import StageFolder, stage_folder
from gr2.teach.rationale import lexicon, phrases
from gr2.types import Split

NAME = "03_midtrain"
READS = ("01_corpus", "02_sids")
VALID_USERS = 2000
"""Users whose validation events are looked at; of more, so many at even distances."""
PHRASES = 20
"""How often the teacher's words are shown to the BPE, so that each becomes one token: thoughts are long otherwise."""


class Config(BaseModel):
    """The model, what it reads, and for how long it learns."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    nano: NanoConfig = NanoConfig()
    """Shape of the model."""
    base: bool = True
    """Start from the weights that ship with gr2, pretrained on made-up shops, instead of random ones (ours). They have
    the default shape of `nano`."""
    pretrained: str | None = None
    """Start from a pretrained language model instead of `nano` and `base`: "smollm2-135m", or the path of a local
    Hugging Face folder (ours; P1: Qwen3-8B). Left out: nano."""
    template: str = "nano"
    """Prompt template, a file of gr2/prompt/templates."""
    markers: bool = False
    """Begin and end tokens around an id (P1 has them; they cost two tokens an item)."""
    history: int = 30
    """Newest events shown in a prompt, and window of the alignment tasks (ours)."""
    k: int = Field(default=10, ge=2, le=MAX_LABELS)
    """Candidates of a made-up slate (P1: 10)."""
    mix: Mix = Mix()
    """Shares of the alignment tasks."""
    fit: FitConfig
    """Training."""

    @model_validator(mode="after")
    def one_start(self) -> "Config":
        if self.pretrained and self.base:
            raise ValueError("pretrained and base are two starts; set base = false, or leave pretrained out")
        return self


def midtrain(corpus: Corpus, ids: SemanticIds, config: Config, seed: int, work: StageFolder) -> Checkpoint:
    """Train the model from its start; progress, checkpoints and metrics go to `work`."""
    model, tokenizer = start(corpus, ids, config, seed)
    checkpoint = assemble(
        model,
        tokenizer,
        corpus,
        ids,
        template=config.template,
        markers=config.markers,
        history=config.history,
    )
    tasks = AlignmentTasks(corpus, checkpoint.id_tokens, tokenizer, config.mix, history=config.history, k=config.k)

    def batch_of(step: int) -> list[Row]:
        rng = np.random.default_rng((seed, step))
        return [tasks.row(rng) for _ in range(config.fit.batch_size)]

    def loss_of(rows: list[Row]) -> Tensor:
        tokens = pad_right([row.tokens for row in rows], tokenizer.pad_token_id)
        weights = pad_right([row.counts for row in rows], 0, torch.float32)
        return weighted_next_token(model, tokens, weights)

    fit(
        model,
        batch_of,
        loss_of,
        config.fit,
        work,
        phase="midtrain",
        seed=seed,
        evaluate=lambda: {"nats_per_item": nats_per_item(checkpoint, corpus)},
    )
    return checkpoint


def start(corpus: Corpus, ids: SemanticIds, config: Config, seed: int) -> tuple[Any, Any]:
    """Model and tokenizer before the first step; both know the control and id tokens."""
    if config.pretrained:
        model, tokenizer = load_pretrained(config.pretrained)
        learn_tokens(model, tokenizer, ids, markers=config.markers, seed=seed)
        return model, tokenizer
    texts = [text for item in corpus.items for text in (item.text, sentence(item))]
    texts += PHRASES * phrases(lexicon(corpus.items))
    tokenizer = train_tokenizer(texts, config.nano.words)
    grow(tokenizer, ids, markers=config.markers)
    model = new_model(config.nano, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, seed)
    if config.base:
        start_from_base(model, tokenizer, seed)
    return model, tokenizer


@torch.inference_mode()
def nats_per_item(checkpoint: Checkpoint, corpus: Corpus, batch_size: int = 64) -> float:
    """Mean over validation events of -log P(id of the event | history before it), in nats."""
    ids, history = checkpoint.id_tokens, checkpoint.renderer.history
    start = checkpoint.tokenizer.convert_tokens_to_ids(HISTORY)
    rows: list[list[int]] = []
    targets: list[int] = []
    for timeline in corpus.timelines[:: math.ceil(len(corpus.timelines) / VALID_USERS)]:
        n_valid = timeline.splits.count(Split.VALID)
        known = [i for i, s in zip(timeline.item_ids, timeline.splits, strict=True) if s is not Split.TEST]
        if n_valid:
            rows.append([start, *ids.of(known[-history - n_valid :]).flatten().tolist()])
            targets.append(n_valid)
    size = ids.spelled.shape[1]
    total = 0.0
    for part, counts in zip(chunks(rows, batch_size), chunks(targets, batch_size), strict=True):
        tokens = pad_right(part, checkpoint.tokenizer.pad_token_id)
        weights = torch.zeros(tokens.shape)
        for i, (row, n) in enumerate(zip(part, counts, strict=True)):
            weights[i, len(row) - n * size : len(row)] = 1
        mean = weighted_next_token(checkpoint.model, tokens, weights)
        total += float(mean) * float(weights.sum())
    return total / sum(targets)


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        checkpoint = midtrain(corpus, ids, config, seed, work)
        checkpoint.save(work.path)
        work.counts["parameters"] = checkpoint.model.num_parameters()
        work.counts["vocabulary"] = len(checkpoint.tokenizer)
        work.counts["nats_per_item"] = nats_per_item(checkpoint, corpus)
