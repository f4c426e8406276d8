"""Item text and training co-visitation -> vectors -> residual codes -> a unique semantic id for every item.

Reads: 01_corpus. Writes: SemanticIds (ids.parquet, codebooks.safetensors, sids.json), report.json, report.png,
vectors.safetensors (`text`: (N, T) float32, row = Corpus row), projection.safetensors (for items that come later).
Source: P1 §2.1-2.3; residual k-means as the default quantizer, and uniqueness by least-cost assignment, are ours.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from threadpoolctl import threadpool_limits

from gr2.artifacts import Corpus, SemanticIds, save_text_vectors
from gr2.record import digests_of, stage_folder, write_json
from gr2.sid.assign import unique_codes
from gr2.sid.embed import MODEL, embed_texts, text_report
from gr2.sid.engagement import co_engaged_pairs, co_visitation_vectors
from gr2.sid.matrix import read_matrix
from gr2.sid.nearer import nearer_ids
from gr2.sid.picture import draw_report
from gr2.sid.project import blocks, save_projection
from gr2.sid.quantize import LEVELS, Quantized, default_sizes, random_last, residual_kmeans
from gr2.sid.report import sid_report
from gr2.sid.rqvae import RqVaeConfig, rqvae

NAME = "02_sids"
READS = ("01_corpus",)
Sizes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, max_length=26)]


class Config(BaseModel):
    """The [sids] table."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    codebook_sizes: Sizes | None = None
    """Codes of each level, general level first. P1: 4 levels of unpublished size; OneRec-Think: 4 x 256. Left out: four
    levels whose size follows the number of items (`default_sizes`, ours), 4 x 256 from 8,192 items on."""
    text_model: str = MODEL
    """What embeds item text: the MiniLM of the wheel, any sentence-transformers name or folder, or "tfidf". Ours."""
    embeddings: Path | None = None
    """Vectors that you have, in place of embedded text: .npy (row = the items' row) or .parquet (item_id, vector)."""
    text_dims: int = Field(default=64, ge=0)
    """Principal components kept of embedded text; 0 keeps all. Vectors of your own are not cut. Ours."""
    engagement_weight: float = Field(default=0.5, ge=0)
    """Weight of the co-visitation block beside the text block, each of unit mean squared norm; 0 = text only. Ours."""
    engagement_dims: int = Field(default=64, ge=1)
    """Dimensions of the co-visitation vector. Ours."""
    engagement_window: int = Field(default=10, ge=1)
    """Two training events of a user count as co-visited when at most so many events apart. Ours."""
    quantizer: Literal["kmeans", "rqvae"] = "kmeans"
    """Residual k-means++ (ours), or P1's RQ-VAE with the techniques of [sids.rqvae]."""
    random_levels: int = Field(default=0, ge=0)
    """Last levels whose codes are drawn at random, as P1 does, before uniqueness is made certain; 0 = none."""
    random_unused: bool = False
    """Draw them among the codes that no other item of the prefix has, not among all (P1's sources disagree)."""
    cache: Path = Path("cache")
    """Folder in which text vectors are kept between runs."""
    rqvae: RqVaeConfig = RqVaeConfig()
    """The RQ-VAE and its techniques."""

    @model_validator(mode="after")
    def _a_level_that_means_something(self) -> Self:
        levels = len(self.codebook_sizes) if self.codebook_sizes else LEVELS
        if self.random_levels >= levels:
            raise ValueError(f"random_levels = {self.random_levels} leaves no level of {levels}")
        return self

    def files(self) -> dict[str, Path]:
        """The user's own that are read."""
        return {"embeddings": self.embeddings} if self.embeddings else {}


@threadpool_limits.wrap(limits=1)  # sums in another order would give other ids on another number of cores
def build_ids(
    corpus: Corpus, text: np.ndarray, config: Config, seed: int
) -> tuple[SemanticIds, dict[str, Any], dict[str, np.ndarray]]:
    """Ids in corpus order, their report and their projection, from `text` (N, T) in corpus order.

    Works in the order of item ids throughout, so the same catalogue in another order gets the same ids.
    Raises UserError when the catalogue has more items than there are ids.
    """
    order = np.array(sorted(range(len(corpus.items)), key=lambda i: corpus.items[i].item_id), dtype=np.int64)
    items = [corpus.items[i] for i in order]
    row = {item.item_id: i for i, item in enumerate(items)}
    vectors, projection = blocks(
        text[order],
        _company(corpus, row, config),
        text_dims=0 if config.embeddings else config.text_dims,
        company_weight=config.engagement_weight,
    )
    sizes = config.codebook_sizes or default_sizes(len(items))
    quantized = _quantize(vectors, sizes, corpus, row, config, seed)
    before = quantized.codes
    if config.random_levels:
        before = random_last(before, sizes, levels=config.random_levels, unused=config.random_unused, seed=seed)
    points, books = quantized.points, quantized.codebooks
    codes = nearer_ids(points, before, unique_codes(points, before, books), books)
    report = sid_report(
        items=items,
        vectors=vectors,
        before=before,
        after=codes,
        codebooks=books,
        decode=quantized.decode,
    )
    in_corpus_order = np.empty_like(codes)
    in_corpus_order[order] = codes
    ids = SemanticIds(
        item_ids=tuple(item.item_id for item in corpus.items),
        codes=in_corpus_order,
        codebook_sizes=sizes,
        codebooks=books,
    )
    return ids, report, projection | quantized.weights


def _company(corpus: Corpus, row: dict[str, int], config: Config) -> np.ndarray | None:
    """(N, E) co-visitation vectors, or None where they weigh nothing."""
    if not config.engagement_weight:
        return None
    sequences = corpus.train_sequences()
    return co_visitation_vectors(sequences, row, dims=config.engagement_dims, window=config.engagement_window)


def _quantize(
    vectors: np.ndarray, sizes: Sequence[int], corpus: Corpus, row: dict[str, int], config: Config, seed: int
) -> Quantized:
    quantize: Callable[..., Quantized] = residual_kmeans
    if config.quantizer == "rqvae":
        sequences = corpus.train_sequences() if config.rqvae.contrastive_weight else []
        pairs = co_engaged_pairs(sequences, row, window=config.engagement_window)
        quantize = partial(rqvae, config=config.rqvae, pairs=pairs)
    return quantize(vectors, sizes, seed=seed)


def main(run: Path, config: Config, seed: int) -> None:
    corpus = Corpus.load(run / "01_corpus")
    inputs = {name: run / name for name in READS}
    with stage_folder(run / NAME, {**config.model_dump(), "seed": seed}, inputs) as work:
        item_ids, texts = [item.item_id for item in corpus.items], [item.text for item in corpus.items]
        if config.embeddings:
            text = read_matrix(config.embeddings, item_ids)
            work.counts |= digests_of(config.files())
            duplicates = {"duplicate_vectors": len(text) - len(np.unique(text, axis=0))}
        else:
            embedded = embed_texts(texts, config.cache, config.text_model)
            text = embedded.vectors
            duplicates = {"duplicate_texts": embedded.n_duplicate, "empty_texts": embedded.n_empty}
            duplicates |= text_report(item_ids, texts)
        ids, report, projection = build_ids(corpus, text, config, seed)
        report |= duplicates
        ids.save(work.path)
        save_projection(work.path, projection)
        save_text_vectors(text, work.path)
        write_json(work.path / "report.json", report)
        draw_report(work.path / "report.png", report, ids.codes)
        work.counts |= {k: report[k] for k in ("n_items", "unique_share_before", "unique_share", "moved_items")}
