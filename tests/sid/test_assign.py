from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.errors import UserError
from gr2.sid.assign import nearest_codes, squared_distances, unique_codes
from gr2.sid.quantize import residual_kmeans


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def test_squared_distances():
    assert squared_distances(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0], [4.0, 6.0]])).tolist() == [[0, 9 + 16]]


def test_nearest_codes_level_by_level():
    # 11 -> 10 leaves 1 -> code 1; -9 -> -10 leaves 1 -> code 1
    assert nearest_codes(column(11, -9), [column(10, -10), column(0, 1)]).tolist() == [[0, 1], [1, 1]]


def test_least_cost_within_a_prefix():
    # 0.0 and 0.4 both want code 0 (value 0). Moving 0.4 to 1 costs .36, moving 0.0 to 1 costs 1 - (0.16 for 0.4 at 0).
    codes = unique_codes(column(0.0, 0.4), np.array([[0, 0], [0, 0]]), [column(0), column(0, 1)])
    assert codes.tolist() == [[0, 0], [0, 1]]


def test_what_is_unique_stays():
    given_codes = np.array([[0, 1], [1, 1], [1, 0]])
    codes = unique_codes(column(5, 9, 2), given_codes, [column(0, 3), column(0, 1)])
    assert codes.tolist() == given_codes.tolist()


def test_identical_items_are_separated_in_row_order():
    codes = unique_codes(column(0, 0, 0), np.zeros((3, 1), dtype=np.int64), [column(0, 2, 1)])
    assert sorted(codes[:, 0].tolist()) == [0, 1, 2]
    again = unique_codes(column(0, 0, 0), np.zeros((3, 1), dtype=np.int64), [column(0, 2, 1)])
    assert codes.tolist() == again.tolist()


def test_overflow_moves_the_item_that_loses_least_to_the_nearest_prefix_with_room():
    # Prefix 0 (value 0) has two ids but four items want it. Prefix 1 (value 10) is full; prefix 2 lies at 4.
    books = [column(0, 10, 4), column(0, 1)]
    vectors = column(0, 1, 1.5, 0.5, 10, 11)
    wanted = np.array([[0, 0], [0, 1], [0, 1], [0, 0], [1, 0], [1, 1]])
    codes = unique_codes(vectors, wanted, books)
    # moving x from 0 to 4 costs (4-x)^2 - x^2 = 16 - 8x: cheapest for 1.5, then for 1
    assert codes[:, 0].tolist() == [0, 2, 2, 0, 1, 1]
    assert len(np.unique(codes, axis=0)) == 6


def test_a_catalogue_beyond_the_code_space_is_a_user_error():
    with pytest.raises(UserError, match=r"\[2, 2\] make 4 ids for 5 items"):
        unique_codes(column(*range(5)), np.zeros((5, 2), dtype=np.int64), [column(0, 1), column(0, 1)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(2, 3), (3, 2, 2), (4, 4), (12,)]), st.integers(1, 4), st.data())
def test_always_unique_and_within_range(seed, sizes, distinct, data):
    n = data.draw(st.integers(1, int(np.prod(sizes))))
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(distinct, 2)).astype(np.float32)[rng.integers(0, distinct, n)]
    books = [rng.normal(size=(size, 2)).astype(np.float32) for size in sizes]
    codes = unique_codes(vectors, nearest_codes(vectors, books), books)
    assert len(np.unique(codes, axis=0)) == n
    assert (codes >= 0).all()
    assert (codes < np.array(sizes)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_last_level_is_the_optimum_of_all_permutations(seed, n):
    rng = np.random.default_rng(seed)
    vectors, book = rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    codes = unique_codes(vectors, np.zeros((n, 1), dtype=np.int64), [book])[:, 0]
    costs = squared_distances(vectors, book)
    best = min(costs[range(n), list(choice)].sum() for choice in permutations(range(5), n))
    assert np.isclose(costs[range(n), codes].sum(), best)


def test_blind_to_row_order_once_rows_are_put_back():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(200, 4)).astype(np.float32)
    quantized = residual_kmeans(vectors, (6, 6, 6), seed=0)
    codes = unique_codes(vectors, quantized.codes, quantized.codebooks)
    order = rng.permutation(200)
    shuffled = unique_codes(vectors[order], quantized.codes[order], quantized.codebooks)
    assert shuffled.tolist() == codes[order].tolist()
