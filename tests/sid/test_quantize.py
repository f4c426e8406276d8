import numpy as np

from gr2.sid.assign import nearest_codes
from gr2.sid.quantize import residual_kmeans


def test_finds_a_two_level_structure_exactly():
    coarse = np.array([[100, 0], [-100, 0], [0, 100]], dtype=np.float32)
    fine = np.array([[1, 1], [-1, -1]], dtype=np.float32)
    vectors = (coarse[:, None] + fine[None]).reshape(-1, 2)
    result = residual_kmeans(vectors, (3, 2), seed=0)
    assert np.allclose(result.residuals[-1], 0, atol=1e-4)
    assert len(np.unique(result.codes, axis=0)) == 6
    assert (result.codes[0::2, 0] == result.codes[1::2, 0]).all()
    assert len(set(result.codes[0::2, 1])) == 1


def test_residuals_are_what_the_codes_leave():
    vectors = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
    result = residual_kmeans(vectors, (8, 8, 8), seed=1)
    decoded = sum(book[result.codes[:, level]] for level, book in enumerate(result.codebooks))
    assert np.allclose(vectors - decoded, result.residuals[-1], atol=1e-5)
    energy = [float((r**2).sum()) for r in result.residuals]
    assert energy == sorted(energy, reverse=True)


def test_quantise_decode_quantise_is_identity():
    vectors = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
    result = residual_kmeans(vectors, (8,), seed=1)
    assert (nearest_codes(result.codebooks[0][result.codes[:, 0]], result.codebooks) == result.codes).all()


def test_a_seed_means_one_result():
    vectors = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    first, second = (residual_kmeans(vectors, (5, 5), seed=7) for _ in range(2))
    assert (first.codes == second.codes).all()


def test_fewer_items_than_codes_and_identical_items():
    result = residual_kmeans(np.ones((3, 2), dtype=np.float32), (8, 8), seed=0)
    assert [book.shape for book in result.codebooks] == [(8, 2), (8, 2)]
    assert np.allclose(result.residuals[-1], 0)
