"""Item text and training co-visitation -> vectors -> residual codes -> a unique semantic id for every item.

Reads: 01_corpus. Writes: SemanticIds (ids.parquet, codebooks.safetensors, sids.json), report.json,
vectors.safetensors (`text`: (N, 384) float32, row = Corpus row). Source: P1 §2.1-2.3; residual k-means instead of
the RQ-VAE, and uniqueness by least-cost assignment, are ours.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from safetensors.numpy import save_file
from sklearn.decomposition import PCA

from gr2.artifacts import Corpus, SemanticIds
from gr2.record import stage_folder, write_json
from gr2.sid.assign import unique_codes
from gr2.sid.embed import embed_texts
from gr2.sid.engagement import co_visitation_vectors
from gr2.sid.quantize import residual_kmeans
from gr2.sid.report import sid_report

NAME = "02_sids"
READS = ("01_corpus",)


class Config(BaseModel):
    """The [sids] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    codebook_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 32, 32), min_length=1, max_length=26)
    """Codes of each level, general level first. P1: 4 levels of unpublished size; OneRec-Think: 4 x 256."""
    text_dims: int = Field(default=64, ge=0)
    """Principal components kept of the 384 text dimensions; 0 keeps the 384 as they are. Ours."""
    engagement_weight: float = Field(default=0.5, ge=0)
    """Weight of the co-visitation block beside the text block, each of unit mean squared norm; 0 = text only. Ours."""
    engagement_dims: int = Field(default=64, ge=1)
    """Dimensions of the co-visitation vector. Ours."""
    engagement_window: int = Field(default=10, ge=1)
    """Two training events of a user count as co-visited when at most so many events apart. Ours."""
    cache: Path = Path("cache")
    """Folder in which text vectors are kept between runs."""


def build_ids(corpus: Corpus, text: np.ndarray, config: Config, seed: int) -> tuple[SemanticIds, dict[str, Any]]:
    """Ids in corpus order and their report, from `text` (N, 384) in corpus order.

    Works in the order of item ids throughout, so the same catalogue in another order gets the same ids.
    Raises UserError when the catalogue has more items than there are ids.
    """
    order = np.array(sorted(range(len(corpus.items)), key=lambda i: corpus.items[i].item_id), dtype=np.int64)
    items = [corpus.items[i] for i in order]
    vectors = _blocks(corpus, text[order], {item.item_id: i for i, item in enumerate(items)}, config)
    quantized = residual_kmeans(vectors, config.codebook_sizes, seed=seed)
    codes = unique_codes(vectors, quantized.codes, quantized.codebooks)
    report = sid_report(
        items=items, vectors=vectors, before=quantized.codes, after=codes, codebooks=quantized.codebooks
    )
    in_corpus_order = np.empty_like(codes)
    in_corpus_order[order] = codes
    ids = SemanticIds(
        item_ids=tuple(item.item_id for item in corpus.items),
        codes=in_corpus_order,
        codebook_sizes=config.codebook_sizes,
        codebooks=quantized.codebooks,
    )
    return ids, report


def _blocks(corpus: Corpus, text: np.ndarray, row: dict[str, int], config: Config) -> np.ndarray:
    """(N, D) float32: text block, then the weighted co-visitation block; rows as in `text` and `row`."""
    if config.text_dims:
        text = PCA(min(config.text_dims, *text.shape), svd_solver="full").fit_transform(text)
    blocks = [_standard(text)]
    if config.engagement_weight:
        sequences = corpus.train_sequences()
        engagement = co_visitation_vectors(sequences, row, dims=config.engagement_dims, window=config.engagement_window)
        blocks.append(config.engagement_weight * _standard(engagement))
    # Rounded, so that float noise of the projections neither tells equal items apart nor depends on their order.
    return np.concatenate(blocks, axis=1).round(5).astype(np.float32)


def _standard(block: np.ndarray) -> np.ndarray:
    """Centred, then scaled as a whole to a mean squared norm of 1; unchanged when all rows are alike."""
    centred = block - block.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=1).mean())
    return centred / norm if norm > 1e-6 else centred


def main(run: Path, config: Config, seed: int) -> None:
    corpus = Corpus.load(run / "01_corpus")
    inputs = {name: run / name for name in READS}
    with stage_folder(run / NAME, {**config.model_dump(), "seed": seed}, inputs) as work:
        embedded = embed_texts([item.text for item in corpus.items], config.cache)
        ids, report = build_ids(corpus, embedded.vectors, config, seed)
        report |= {"duplicate_texts": embedded.n_duplicate, "empty_texts": embedded.n_empty}
        ids.save(work.path)
        save_file({"text": embedded.vectors}, work.path / "vectors.safetensors")
        write_json(work.path / "report.json", report)
        work.counts |= {k: report[k] for k in ("n_items", "unique_share_before", "unique_share", "moved_items")}
