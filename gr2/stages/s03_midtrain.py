"""Stage 3: a language model learns what the semantic ids mean.

The nano model starts from the base that ships with gr2, which knows how to read a slate and no item; its BPE is made
here. A pretrained language model brings its own. The vocabulary grows by one token a code a level, and
all weights learn next-token prediction on the alignment tasks. The figure to watch is nats per item: the loss of the
next event on validation events, summed over the codes of an id (uniform: log of the catalogue size).

Reads: 01_corpus, 02_sids. Writes: a checkpoint, metrics.jsonl. Source: P1 §2.4, P2; task `slate` is ours.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from gr2.artifacts import Corpus, SemanticIds, load_text_vectors
from gr2.device import home
from gr2.lm.alignment import AlignmentTasks, Mix, Row, sentence
from gr2.lm.batches import chunks, pad_right
from gr2.lm.checkpoint import Checkpoint, assemble
from gr2.lm.item_head import attach, head_of, start_from_noise, start_from_texts
from gr2.lm.loss import weighted_nats, weighted_next_token
from gr2.lm.nano import NanoConfig, new_model, train_tokenizer
from gr2.lm.pretrain import start_from_base
from gr2.lm.pretrained import learn_tokens, load_pretrained
from gr2.lm.train import FitConfig, fit
from gr2.lm.vocabulary import grow, learn_words
from gr2.prompt.render import MAX_LABELS, THINK
from gr2.record import StageFolder, stage_folder
from gr2.teach.rationale import lexicon, vocabulary
from gr2.types import Split

NAME = "03_midtrain"
READS = ("01_corpus", "02_sids")
VALID_USERS = 2000
"""Users whose validation events are looked at; of more, so many at even distances."""


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
    history: int = Field(default=30, ge=1)
    """Newest events shown in a prompt, and window of the alignment tasks (ours)."""
    k: int = Field(default=10, ge=2, le=MAX_LABELS)
    """Candidates of a made-up slate (P1: 10)."""
    histories: int | None = Field(default=None, ge=1)
    """Training events a step that are learned as histories of ids alone beside the rows of the mix, and give every item
    a vector beside its codes (`lm.item_head`). Left out: none (ours)."""
    gaps: bool | None = None
    """A token before every history event says how long after the one before it came (`prompt.gaps`), in the tasks and
    in prompts. Left out: none (ours)."""
    mix: Mix = Mix()
    """Shares of the alignment tasks."""
    fit: FitConfig
    """Training."""

    @model_validator(mode="after")
    def consistent(self) -> "Config":
        if self.pretrained and self.base:
            raise ValueError("pretrained and base are two starts; set base = false, or leave pretrained out")
        if self.histories and self.histories < self.history:
            raise ValueError(
                f"histories: {self.histories} events a step are less than a window, history = {self.history}"
            )
        return self


def midtrain(
    corpus: Corpus,
    ids: SemanticIds,
    config: Config,
    seed: int,
    work: StageFolder,
    vectors_NT: np.ndarray | None = None,
) -> Checkpoint:
    """Train the model from its start; progress, checkpoints and metrics go to `work`. `vectors_NT`: of the items'
    texts, in the order of the catalogue; an item head starts from them, or from noise without them."""
    model, tokenizer = start(corpus, ids, config, seed)
    checkpoint = assemble(
        model,
        tokenizer,
        corpus,
        ids,
        template=config.template,
        markers=config.markers,
        history=config.history,
        gaps=bool(config.gaps),
    )
    tasks = AlignmentTasks(
        corpus,
        checkpoint.id_tokens,
        tokenizer,
        config.mix,
        history=config.history,
        k=config.k,
        gaps=bool(config.gaps),
    )

    if config.histories:
        in_order = None if vectors_NT is None else vectors_NT[[corpus.row[item_id] for item_id in ids.item_ids]]
        give_head(checkpoint, in_order, seed)
    model.to(home())

    @lru_cache(maxsize=1)
    def all_histories(epoch: int) -> list[list[Row]]:
        return tasks.histories(np.random.default_rng((seed, epoch)), config.histories) if config.histories else [[]]

    n_histories = len(all_histories(0))

    def batch_of(step: int) -> tuple[list[Row], list[Row]]:
        rng = np.random.default_rng((seed, step))
        epoch, place = divmod(step, n_histories)
        return all_histories(epoch)[place], [tasks.row(rng) for _ in range(config.fit.batch_size)]

    def loss_of(batch: tuple[list[Row], list[Row]]) -> Tensor:
        histories, mixed = batch
        words = weighted_next_token(model, *padded(mixed, tokenizer.pad_token_id))
        return words + words_and_items(model, histories, tokenizer.pad_token_id) if histories else words

    fit(
        model,
        batch_of,
        loss_of,
        config.fit,
        work,
        phase="midtrain",
        seed=seed,
        evaluate=lambda: validation_nats(checkpoint, corpus),
    )
    return checkpoint


def give_head(checkpoint: Checkpoint, vectors_NT: np.ndarray | None, seed: int) -> None:
    """An item head before the first step; `vectors_NT` of texts, in the order of the ids."""
    model, ids = checkpoint.model, checkpoint.id_tokens
    width = model.config.hidden_size
    if vectors_NT is None:
        head = start_from_noise(len(ids.spelled), width, seed)
    else:
        head = start_from_texts(torch.tensor(vectors_NT), width)
    attach(model, head, ids.spelled, checkpoint.tokenizer.convert_tokens_to_ids(THINK))


def padded(rows: Sequence[Row], pad: int) -> tuple[Tensor, Tensor]:
    """(B, T) tokens, and how much predicting each counts."""
    return pad_right([row.tokens for row in rows], pad), pad_right([row.counts for row in rows], 0, torch.float32)


def words_and_items(model: Any, histories: Sequence[Row], pad: int) -> Tensor:
    """Next-token loss in nats a token, and the item head's in nats an item, from one forward pass."""
    tokens_BT, weights_BT = padded(histories, pad)
    hidden_BTD = model.model(input_ids=tokens_BT[:, :-1].to(model.device)).last_hidden_state
    tokens_BT, weights_BT = tokens_BT.to(hidden_BTD.device), weights_BT.to(hidden_BTD.device)
    words = weighted_nats(model.lm_head(hidden_BTD), tokens_BT[:, 1:], weights_BT[:, 1:])
    places = torch.tensor([(b, at - 1, item) for b, row in enumerate(histories) for at, item in row.begins.items()])
    head = head_of(model)
    assert head
    return words + head.nats(hidden_BTD[places[:, 0], places[:, 1]], places[:, 2].to(hidden_BTD.device))


def start(corpus: Corpus, ids: SemanticIds, config: Config, seed: int) -> tuple[Any, Any]:
    """Model and tokenizer before the first step; both know the control and id tokens."""
    if config.pretrained:
        model, tokenizer = load_pretrained(config.pretrained)
        learn_tokens(model, tokenizer, ids, markers=config.markers, seed=seed, gaps=bool(config.gaps))
        return model, tokenizer
    texts = [text for item in corpus.items for text in (item.text, sentence(item))]
    tokenizer = train_tokenizer(texts, config.nano.words)
    learn_words(tokenizer, vocabulary(lexicon(corpus.items)))
    grow(tokenizer, ids, markers=config.markers, gaps=bool(config.gaps))
    model = new_model(config.nano, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id, seed)
    if config.base:
        start_from_base(model, tokenizer, seed)
    return model, tokenizer


@torch.inference_mode()
def validation_nats(checkpoint: Checkpoint, corpus: Corpus, batch_size: int = 64) -> dict[str, float]:
    """Mean over validation events of -log P(event | history before it), in nats: `nats_per_item` by the codes of its
    id, and `nats_by_head` by the item head where there is one."""
    ids, head = checkpoint.id_tokens, head_of(checkpoint.model)
    size, pad = ids.spelled.shape[1], checkpoint.tokenizer.pad_token_id
    by_codes, by_head, n = 0.0, 0.0, 0
    for part in chunks(validation_events(checkpoint, corpus), batch_size):
        rows = [checkpoint.history_tokens(known, times) for known, times, _ in part]
        each = checkpoint.item_length
        places = [
            (b, (at + 1) * each + 1 - size)
            for b, (known, _, n_valid) in enumerate(part)
            for at in range(len(known) - n_valid, len(known))
        ]
        tokens, (line, begin) = pad_right(rows, pad), torch.tensor(places).T
        weights = torch.zeros(tokens.shape)
        weights[line[:, None], begin[:, None] + torch.arange(size)] = 1
        tokens, weights = tokens.to(checkpoint.model.device), weights.to(checkpoint.model.device)
        hidden_BTD = checkpoint.model.model(input_ids=tokens[:, :-1]).last_hidden_state
        words = weighted_nats(checkpoint.model.lm_head(hidden_BTD), tokens[:, 1:], weights[:, 1:])
        by_codes += float(words) * size * len(places)
        n += len(places)
        if head:
            items = torch.tensor([ids.row[item] for known, _, n_valid in part for item in known[-n_valid:]]).to(
                hidden_BTD.device
            )
            by_head += float(head.nats(hidden_BTD[line, begin - 1], items)) * len(places)
    return {"nats_per_item": by_codes / n} | ({"nats_by_head": by_head / n} if head else {})


def validation_events(checkpoint: Checkpoint, corpus: Corpus) -> list[tuple[tuple[str, ...], tuple[int, ...], int]]:
    """Histories that end in validation events, their times with one more at the end, and how many such events."""
    found = []
    held_out = [timeline for timeline in corpus.timelines if Split.VALID in timeline.splits]
    for timeline in held_out[:: max(1, math.ceil(len(held_out) / VALID_USERS))]:
        n_valid = timeline.splits.count(Split.VALID)
        shown = slice(-checkpoint.renderer.history - n_valid, None)
        events = zip(timeline.item_ids, timeline.times, timeline.splits, strict=True)
        known = [(item, time) for item, time, split in events if split is not Split.TEST][shown]
        items, times = tuple(item for item, _ in known), tuple(time for _, time in known)
        found.append((items, (*times, times[-1]), n_valid))
    return found


def main(run: Path, config: Config, seed: int) -> None:
    corpus, ids = Corpus.load(run / READS[0]), SemanticIds.load(run / READS[1])
    vectors = load_text_vectors(run / READS[1]) if config.histories else None
    key = {**config.model_dump(), "seed": seed}
    with stage_folder(run / NAME, key, {name: run / name for name in READS}) as work:
        checkpoint = midtrain(corpus, ids, config, seed, work, vectors)
        checkpoint.save(work.path)
        work.counts["parameters"] = checkpoint.model.num_parameters()
        work.counts["vocabulary"] = len(checkpoint.tokenizer)
        work.counts |= validation_nats(checkpoint, corpus)
