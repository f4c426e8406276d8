"""First part of the ablation: an RQ-VAE for every combination of P1's techniques, and what each is worth."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gr2.artifacts import Corpus
from gr2.corpus.generic import read_items, read_log
from gr2.corpus.splits import split_log
from gr2.progress import track
from gr2.record import digest_json, read_json, write_json
from gr2.sid.embed import embed_texts
from gr2.sid.engagement import co_engaged_pairs
from gr2.sid.project import blocks
from gr2.sid.quantize import random_last
from gr2.sid.report import alone_share, reconstruction_errors
from gr2.sid.rqvae import RqVaeConfig, rqvae

SIZES = (256, 256, 256, 256)
TEXT_DIMS = 64
WINDOW = 10
SEED = 0
RANDOM = "random last level"
TECHNIQUES: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "k-means initialisation": ({"kmeans_init": False}, {"kmeans_init": True}),
    "EMA": ({"ema_decay": 0.0}, {"ema_decay": 0.95}),
    "diversity loss": ({"diversity_weight": 0.0}, {"diversity_weight": 0.1}),
    "dead-code reset": ({"reset_dead": False}, {"reset_dead": True}),
    "contrastive loss": ({"contrastive_weight": 0.0}, {"contrastive_weight": 0.1}),
}
"""Technique -> its settings off and on."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """What every cell of the ablation starts from; rows are in the order of item ids."""

    corpus: Corpus
    text: np.ndarray
    """(N, T) float32."""
    vectors: np.ndarray
    """(N, D) float32: text, cut and standardised."""
    pairs: np.ndarray
    """(M, 2) co-engaged rows."""


def read_catalogue(data: Path, cache: Path) -> Catalogue:
    """`data` holds items.jsonl.gz and sequences.jsonl.gz; a user's last event is test, the one before it valid."""
    items = tuple(sorted(read_items(data / "items.jsonl.gz"), key=lambda item: item.item_id))
    log = read_log(data / "sequences.jsonl.gz", items)
    corpus = Corpus(items=items, timelines=split_log(log, n_valid=1, n_test=1, min_train=1))
    text = embed_texts([item.text for item in items], cache).vectors
    vectors, _ = blocks(text, None, text_dims=TEXT_DIMS, company_weight=0)
    pairs = co_engaged_pairs(corpus.train_sequences(), corpus.row, window=WINDOW)
    return Catalogue(corpus=corpus, text=text, vectors=vectors, pairs=pairs)


def grid(catalogue: Catalogue, work: Path, steps: int) -> list[dict[str, Any]]:
    """Two entries a combination, with its own and with random last codes; read from `work` where measured before."""
    cells = []
    for values in track(list(itertools.product((False, True), repeat=len(TECHNIQUES))), "grid of RQ-VAEs"):
        chosen = dict(zip(TECHNIQUES, values, strict=True))
        path = work / f"cell_{''.join('01'[on] for on in values)}.json"
        cells += once(path, [steps, TECHNIQUES], partial(cell, catalogue, chosen, steps))
    return cells


def cell(catalogue: Catalogue, chosen: Mapping[str, bool], steps: int) -> list[dict[str, Any]]:
    """One RQ-VAE: which techniques are on, the share of items whose id is theirs alone, the error, the codes in use."""
    settings = {key: value for name, on in chosen.items() for key, value in TECHNIQUES[name][on].items()}
    config = RqVaeConfig(steps=steps, **settings)
    made = rqvae(catalogue.vectors, SIZES, seed=SEED, config=config, pairs=catalogue.pairs)
    drawn = random_last(made.codes, SIZES, levels=1, unused=False, seed=SEED)
    return [
        {
            **chosen,
            RANDOM: random,
            "unique": alone_share(codes),
            "error": reconstruction_errors(catalogue.vectors, codes, made.codebooks, made.decode)[-1],
            "usage": float(np.mean([len(np.unique(column)) / 256 for column in codes.T])),
        }
        for random, codes in ((False, made.codes), (True, drawn))
    ]


def once(path: Path, key: Any, compute: Callable[[], Any]) -> Any:
    """What `compute` (JSON-able) gave when it was last asked with this `key`: a stopped ablation goes on from there."""
    wanted = digest_json(key)
    if path.exists() and (kept := read_json(path))["key"] == wanted:
        return kept["value"]
    value = compute()
    write_json(path, {"key": wanted, "value": value})
    return value
