"""Second part of the ablation: ids made in one way each, and how well a nano model then predicts the next item."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gr2.artifacts import Corpus
from gr2.lm.alignment import Mix
from gr2.lm.batches import chunks, pad_right
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.train import FitConfig
from gr2.record import StageFolder, digest_json
from gr2.sid.ablation_grid import RANDOM, SEED, SIZES, TEXT_DIMS, Catalogue
from gr2.stages import s02_sids, s03_midtrain
from gr2.types import Split, Timeline

REFERENCE = "residual k-means"
USERS = 2000
"""Users whose validation event is predicted."""
WATCHED = 32
"""Those of them on whom training is watched."""
BATCH = 16
ARMS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    f"residual k-means, {RANDOM}": {"random_levels": 1},
    "residual k-means, random last level, unused codes": {"random_levels": 1, "random_unused": True},
    "residual k-means with company": {"engagement_weight": 0.5},
    "RQ-VAE": {"quantizer": "rqvae"},
    f"RQ-VAE, {RANDOM}": {"quantizer": "rqvae", "random_levels": 1},
    "RQ-VAE without k-means initialisation": {"quantizer": "rqvae", "rqvae": {"kmeans_init": False}},
    "RQ-VAE without EMA": {"quantizer": "rqvae", "rqvae": {"ema_decay": 0.0}},
    "RQ-VAE without dead-code reset": {"quantizer": "rqvae", "rqvae": {"reset_dead": False}},
    "RQ-VAE with diversity loss": {"quantizer": "rqvae", "rqvae": {"diversity_weight": 0.1}},
    "RQ-VAE with contrastive loss": {"quantizer": "rqvae", "rqvae": {"contrastive_weight": 0.1}},
}
"""Arm -> what it changes in [sids]: text alone, 4 x 256."""


def arm(catalogue: Catalogue, name: str, work: Path, *, rqvae_steps: int, midtrain_steps: int) -> dict[str, Any]:
    """The report of an arm's ids, and `nats`: -log P(id | history) of the held-out events, in the same order always."""
    ids, report, _ = s02_sids.build_ids(catalogue.corpus, catalogue.text, _sids(ARMS[name], rqvae_steps), SEED)
    config = s03_midtrain.Config(
        base=False,
        mix=Mix(preference=1, slate=0, caption=0, persona=0, language=0),
        fit=FitConfig(steps=midtrain_steps, batch_size=BATCH, learning_rate=5e-3),
    )
    folder = work / f"midtrain_{digest_json([ids.digest, midtrain_steps])}"
    folder.mkdir(exist_ok=True)
    watched = held_out(catalogue.corpus, WATCHED)
    checkpoint = s03_midtrain.midtrain(watched, ids, config, SEED, StageFolder(path=folder, resumed=True))
    shutil.rmtree(folder)
    keys = ("unique_share_before", "unique_share", "reconstruction_error_before", "reconstruction_error", "levels")
    return {
        **{key: report[key] for key in keys},
        "nats": nats_of_events(checkpoint, held_out(catalogue.corpus, USERS)).tolist(),
    }


def _sids(changes: Mapping[str, Any], rqvae_steps: int) -> s02_sids.Config:
    rqvae = {"steps": rqvae_steps, **changes.get("rqvae", {})}
    base = {"codebook_sizes": SIZES, "text_dims": TEXT_DIMS, "engagement_weight": 0.0}
    return s02_sids.Config(**{**base, **changes, "rqvae": rqvae})


def held_out(corpus: Corpus, users: int) -> Corpus:
    """No test event, and the validation events of `users` users only, drawn at random: all else stays training data."""
    asked = [i for i, t in enumerate(corpus.timelines) if Split.VALID in t.splits]
    drawn = set(np.random.default_rng(SEED).permutation(asked)[:users].tolist())
    wanted = [(Split.TRAIN, Split.VALID) if i in drawn else (Split.TRAIN,) for i in range(len(corpus.timelines))]
    return replace(corpus, timelines=tuple(map(_cut, corpus.timelines, wanted)))


def _cut(timeline: Timeline, wanted: tuple[Split, ...]) -> Timeline:
    kept = [i for i, split in enumerate(timeline.splits) if split in wanted]
    return replace(
        timeline,
        item_ids=tuple(timeline.item_ids[i] for i in kept),
        times=tuple(timeline.times[i] for i in kept),
        splits=tuple(timeline.splits[i] for i in kept),
    )


@torch.inference_mode()
def nats_of_events(checkpoint: Checkpoint, corpus: Corpus) -> np.ndarray:
    """(E,) -log P(id of a user's last event | history before it), of the users whose last event is a validation one."""
    asked = [t for t in corpus.timelines if t.splits[-1:] == (Split.VALID,)]
    rows = [checkpoint.history_tokens(t.item_ids[-checkpoint.renderer.history - 1 :]) for t in asked]
    size = checkpoint.id_tokens.spelled.shape[1]
    parts = []
    for part in chunks(rows, 64):
        tokens = pad_right(part, checkpoint.tokenizer.pad_token_id).to(checkpoint.model.device)
        logits = checkpoint.model(input_ids=tokens[:, :-1]).logits.float()
        nats = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(part), -1)
        parts += [
            float(row[len(tokens_) - 1 - size : len(tokens_) - 1].sum())
            for row, tokens_ in zip(nats, part, strict=True)
        ]
    return np.array(parts)
