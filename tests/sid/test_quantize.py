from math import prod

import numpy as np
import pytest

from gr2.sid.assign import nearest_codes, reconstruct
from gr2.sid.quantize import default_sizes, random_last, residual_kmeans


def left(vectors, result):
    return vectors - result.decode(reconstruct(result.codes, result.codebooks))


@pytest.mark.parametrize(
    ("n_items", "size"),
    [(1, 2), (2, 4), (1_682, 64), (8_191, 128), (8_192, 256), (11_924, 256), (12_101, 256), (18_357, 256)],
)
def test_default_sizes(n_items, size):
    # 2 x 2 = 2^2, so 4; 2 x 1,682 = 3,364 is above 32^2 and below 64^2 = 4,096; 2 x 8,192 = 128^2
    assert default_sizes(n_items) == (size,) * 4


def test_default_sizes_always_have_room():
    assert all(prod(default_sizes(n)) >= 2 * n for n in (*range(1, 2000), 10**7, 2 * 10**9))
    assert default_sizes(10**7) == (256,) * 4


def test_finds_a_two_level_structure_exactly():
    coarse = np.array([[100, 0], [-100, 0], [0, 100]], dtype=np.float32)
    fine = np.array([[1, 1], [-1, -1]], dtype=np.float32)
    vectors = (coarse[:, None] + fine[None]).reshape(-1, 2)
    result = residual_kmeans(vectors, (3, 2), seed=0)
    assert np.allclose(left(vectors, result), 0, atol=1e-4)
    assert len(np.unique(result.codes, axis=0)) == 6
    assert (result.codes[0::2, 0] == result.codes[1::2, 0]).all()
    assert len(set(result.codes[0::2, 1])) == 1


def test_every_level_leaves_less():
    vectors = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
    result = residual_kmeans(vectors, (8, 8, 8), seed=1)
    sums = np.cumsum([book[result.codes[:, level]] for level, book in enumerate(result.codebooks)], axis=0)
    energy = [float(((vectors - part) ** 2).sum()) for part in sums]
    assert energy == sorted(energy, reverse=True)
    assert (result.points == vectors).all()


def test_quantise_decode_quantise_is_identity():
    vectors = np.random.default_rng(0).normal(size=(150, 6)).astype(np.float32)
    result = residual_kmeans(vectors, (8,), seed=1)
    assert (nearest_codes(result.codebooks[0][result.codes[:, 0]], result.codebooks) == result.codes).all()


def test_a_seed_means_one_result():
    vectors = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    first, second = (residual_kmeans(vectors, (5, 5), seed=7) for _ in range(2))
    assert (first.codes == second.codes).all()


def test_fewer_items_than_codes_and_identical_items():
    vectors = np.ones((3, 2), dtype=np.float32)
    result = residual_kmeans(vectors, (8, 8), seed=0)
    assert [book.shape for book in result.codebooks] == [(8, 2), (8, 2)]
    assert np.allclose(left(vectors, result), 0)


def test_one_item():
    vectors = np.array([[3.0, 4.0]], dtype=np.float32)
    result = residual_kmeans(vectors, (4, 4), seed=0)
    assert result.codes.tolist() == [[0, 0]]
    assert np.allclose(left(vectors, result), 0)


@pytest.mark.parametrize("levels", [1, 2])
def test_random_last_keeps_the_prefix_and_the_range(levels):
    sizes = (3, 4, 5)
    codes = np.stack([np.arange(60) % size for size in sizes], axis=1)
    drawn = random_last(codes, sizes, levels=levels, unused=False, seed=0)
    assert (drawn[:, :-levels] == codes[:, :-levels]).all()
    assert (drawn < np.array(sizes)).all()
    assert (drawn >= 0).all()
    assert (drawn != codes).any()
    assert (drawn == random_last(codes, sizes, levels=levels, unused=False, seed=0)).all()


@pytest.mark.parametrize(("levels", "sizes"), [(1, (2, 5)), (2, (2, 2, 3))])
def test_unused_codes_are_distinct_while_there_are_enough(levels, sizes):
    room = prod(sizes[-levels:])
    codes = np.zeros((2 * room, len(sizes)), dtype=np.int64)
    codes[room:, 0] = 1
    drawn = random_last(codes, sizes, levels=levels, unused=True, seed=0)
    assert len(np.unique(drawn, axis=0)) == 2 * room


def test_unused_codes_repeat_evenly_where_there_are_too_few():
    drawn = random_last(np.zeros((7, 2), dtype=np.int64), (1, 3), levels=1, unused=True, seed=0)
    assert sorted(np.bincount(drawn[:, 1], minlength=3).tolist()) == [2, 2, 3]
