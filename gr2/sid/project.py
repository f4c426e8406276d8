"""Text and company -> the vectors that are quantized, and the same again for items that arrive later (ours).

`python -m gr2.sid.project RUN/02_sids ITEMS OUT.parquet` makes the table of vectors that `gr2.sid.new_items` reads.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import typer
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from gr2.corpus.generic import read_items
from gr2.errors import UserError
from gr2.record import RECORD, read_json, reading
from gr2.sid.embed import TFIDF, embed_texts
from gr2.sid.matrix import read_matrix
from gr2.sid.rqvae import encode

FILE = "projection.safetensors"
Weights = Mapping[str, np.ndarray]


def blocks(
    text: np.ndarray, company: np.ndarray | None, *, text_dims: int, company_weight: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Vectors (N, D) float32 and what `project` needs: text (N, T) beside weighted company (N, E), if there is one.

    Text is cut to `text_dims` principal components (0 keeps all of it); each block is centred and scaled as a whole
    to a mean squared norm of 1.
    """
    weights: dict[str, np.ndarray] = {}
    if text_dims and len(text) > 1:
        pca = PCA(min(text_dims, *text.shape), svd_solver="full")
        text = pca.fit_transform(text)
        weights |= {"pca_mean": pca.mean_, "pca_axes": pca.components_.T}
    standard, weights["text_mean"], weights["text_norm"] = _standard(text)
    parts = [standard]
    if company is not None:
        standard, mean, norm = _standard(company)
        parts.append(company_weight * standard)
        weights["untouched"] = -company_weight * mean / norm
    # Rounded, so that float noise of the projections neither tells equal items apart nor depends on their order.
    vectors = np.concatenate(parts, axis=1).round(5).astype(np.float32)
    return vectors, {name: np.ascontiguousarray(w, dtype=np.float32) for name, w in weights.items()}


def project(text: np.ndarray, weights: Weights) -> np.ndarray:
    """(N, P) float32: where later items with these text vectors (N, T) lie in the space of the codebooks.

    Nobody has touched them yet, so their company is that of an item without events. Raises UserError when T is another
    than when the ids were made.
    """
    expected = weights["pca_mean" if "pca_mean" in weights else "text_mean"]
    if text.shape[1] != len(expected):
        raise UserError(
            f"new items: text vectors of {text.shape[1]} numbers, {len(expected)} where the ids were made; "
            "use the same text_model or embeddings"
        )
    if "pca_axes" in weights:
        text = (text - weights["pca_mean"]) @ weights["pca_axes"]
    parts = [(text - weights["text_mean"]) / weights["text_norm"]]
    if "untouched" in weights:
        parts.append(np.tile(weights["untouched"], (len(text), 1)))
    vectors = np.concatenate(parts, axis=1).round(5).astype(np.float32)
    return encode(vectors, weights) if "input_mean" in weights else vectors


def save_projection(folder: Path, weights: Weights) -> None:
    save_file(dict(weights), folder / FILE)


def load_projection(folder: Path) -> dict[str, np.ndarray]:
    """Raises UserError when the file is absent or spoilt."""
    path = folder / FILE
    with reading(path):
        return load_file(path)


def _standard(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centred and scaled as a whole to a mean squared norm of 1, with mean and norm; norm 1 when all rows are alike."""
    mean = block.mean(axis=0)
    centred = block - mean
    norm = np.sqrt((centred**2).sum(axis=1).mean())
    norm = norm if norm > 1e-6 else np.ones_like(norm)
    return centred / norm, mean, norm.reshape(1)


def main(sids: Path, items: Path, out: Path, embeddings: Path | None = None, cache: Path = Path("cache")) -> None:
    """Write `out`: item_id and vector of every item of the catalogue file `items`, in the space of the run's codebooks.

    `embeddings` is needed where the run took vectors of yours. TF-IDF is fitted to a catalogue and has no such space.
    """
    try:
        model = read_json(sids / RECORD)["config"]["text_model"]
        catalogue = read_items(items)
        if embeddings:
            text = read_matrix(embeddings, [item.item_id for item in catalogue])
        elif model == TFIDF:
            raise UserError(f"{sids}: made with text_model 'tfidf', which is another for other texts; use a real model")
        else:
            text = embed_texts([item.text for item in catalogue], cache, model).vectors
        vectors = project(text, load_projection(sids))
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    pl.DataFrame({"item_id": [item.item_id for item in catalogue], "vector": vectors}).write_parquet(out)


if __name__ == "__main__":
    typer.run(main)
