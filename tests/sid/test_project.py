import json

import numpy as np
import polars as pl
import pytest
import typer

from gr2.errors import UserError
from gr2.sid.project import FILE, blocks, load_projection, main, project, save_projection
from gr2.sid.rqvae import RqVaeConfig, rqvae

RNG = np.random.default_rng(0)
TEXT = RNG.normal(size=(40, 12)).astype(np.float32) + 3
COMPANY = RNG.normal(size=(40, 4)).astype(np.float32)
COMPANY[7] = 0


def test_blocks_have_the_norms_asked_for():
    vectors, _ = blocks(TEXT, COMPANY, text_dims=5, company_weight=0.5)
    assert vectors.shape == (40, 5 + 4)
    assert np.allclose(vectors.mean(axis=0), 0, atol=1e-5)
    assert (vectors[:, :5] ** 2).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)
    assert (vectors[:, 5:] ** 2).sum(axis=1).mean() == pytest.approx(0.25, abs=1e-3)


def test_text_alone_and_uncut():
    vectors, _ = blocks(TEXT, None, text_dims=0, company_weight=0.5)
    assert vectors.shape == (40, 12)
    scale = (TEXT[1] - TEXT[0]) / (vectors[1] - vectors[0])
    assert np.allclose(scale, scale[0], rtol=1e-2)


def test_a_later_item_lands_where_it_would_have_stood():
    vectors, weights = blocks(TEXT, COMPANY, text_dims=5, company_weight=0.5)
    assert np.allclose(project(TEXT[7:8], weights), vectors[7], atol=2e-5)
    assert np.allclose(project(TEXT[:3], weights)[:, :5], vectors[:3, :5], atol=2e-5)


def test_the_projection_survives_the_disk_with_an_encoder(tmp_path):
    vectors, weights = blocks(TEXT, None, text_dims=5, company_weight=0)
    made = rqvae(vectors, (4, 4), seed=0, config=RqVaeConfig(steps=5, latent=3, hidden=8, batch_size=8))
    save_projection(tmp_path, weights | made.weights)
    assert np.allclose(project(TEXT, load_projection(tmp_path)), made.points, atol=5e-5)


@pytest.mark.parametrize("text", [TEXT[:1], np.repeat(TEXT[:1], 5, axis=0)])
def test_one_item_and_equal_items(text):
    vectors, weights = blocks(text, None, text_dims=5, company_weight=0)
    assert np.isfinite(vectors).all()
    assert np.allclose(vectors, 0, atol=1e-4)
    assert np.allclose(project(text, weights), vectors, atol=1e-4)


def test_a_spoilt_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="not there; run the stage that writes it"):
        load_projection(tmp_path)
    (tmp_path / FILE).write_bytes(b"half")
    with pytest.raises(UserError, match=r"unreadable .* make it again"):
        load_projection(tmp_path)


def test_vectors_of_other_dimensions_are_refused():
    _, weights = blocks(TEXT, None, text_dims=5, company_weight=0)
    with pytest.raises(UserError, match="text vectors of 7 numbers, 12 where the ids were made"):
        project(TEXT[:, :7], weights)


def test_the_command_writes_the_table_for_new_items(tmp_path, capsys):
    vectors, weights = blocks(TEXT, None, text_dims=5, company_weight=0)
    save_projection(tmp_path, weights)
    (tmp_path / "record.json").write_text(json.dumps({"config": {"text_model": "tfidf"}}))
    rows = [{"item_id": f"n{i}", "title": f"new {i}"} for i in range(2)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(tmp_path / "v.npy", TEXT[:2])
    main(tmp_path, tmp_path / "items.jsonl", tmp_path / "out.parquet", embeddings=tmp_path / "v.npy")
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["item_id"].to_list() == ["n0", "n1"]
    assert np.allclose(np.stack(table["vector"].to_list()), vectors[:2], atol=2e-5)
    with pytest.raises(typer.Exit):
        main(tmp_path, tmp_path / "items.jsonl", tmp_path / "out.parquet")
    assert "made with text_model 'tfidf'" in capsys.readouterr().err
