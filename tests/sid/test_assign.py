from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from gr2.errors import UserError
from gr2.sid.assign import LARGE, nearest_codes, reconstruct, spill, squared_distances, unique_codes
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


def test_a_full_prefix_of_many_codes_is_the_optimum_too():
    rng = np.random.default_rng(0)
    vectors, book = (rng.normal(size=(LARGE, 3)).astype(np.float32) for _ in range(2))
    codes = unique_codes(vectors, np.zeros((LARGE, 1), dtype=np.int64), [book])[:, 0]
    costs = squared_distances(vectors, book)
    rows, columns = linear_sum_assignment(costs)
    assert costs[range(LARGE), codes].sum() == pytest.approx(costs[rows, columns].sum(), rel=1e-9)
    assert sorted(codes.tolist()) == list(range(LARGE))


def test_blind_to_row_order_once_rows_are_put_back():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(200, 4)).astype(np.float32)
    quantized = residual_kmeans(vectors, (6, 6, 6), seed=0)
    codes = unique_codes(vectors, quantized.codes, quantized.codebooks)
    order = rng.permutation(200)
    shuffled = unique_codes(vectors[order], quantized.codes[order], quantized.codebooks)
    assert shuffled.tolist() == codes[order].tolist()


def test_ids_taken_are_not_given_again():
    books = [column(0, 10), column(0, 1, 2)]
    taken = np.array([[0, 0], [0, 1], [1, 0]])
    codes = unique_codes(column(0, 0.2, 0.1), np.zeros((3, 2), dtype=np.int64), books, taken)
    # One id is free below 0: (0, 2). Moving x to 10 costs (10-x)^2 - x^2 = 100 - 20x: 0.2 goes, then 0.1.
    assert codes[0].tolist() == [0, 2]
    assert codes[1:, 0].tolist() == [1, 1]
    assert sorted(codes[1:, 1].tolist()) == [1, 2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(2, 3), (3, 2, 2), (4, 4), (12,)]), st.integers(1, 4), st.data())
def test_unique_beside_taken_ids_up_to_the_code_space(seed, sizes, distinct, data):
    rng = np.random.default_rng(seed)
    space = np.array(list(np.ndindex(*sizes)))
    taken = space[rng.permutation(len(space))[: data.draw(st.integers(0, len(space)))]]
    n = data.draw(st.integers(0, len(space) - len(taken)))
    vectors = rng.normal(size=(distinct, 2)).astype(np.float32)[rng.integers(0, distinct, n)]
    books = [rng.normal(size=(size, 2)).astype(np.float32) for size in sizes]
    wanted = nearest_codes(vectors, books)
    codes = unique_codes(vectors, wanted, books, taken)
    assert len(np.unique(np.concatenate([taken, codes]), axis=0)) == n + len(taken)
    assert (codes < np.array(sizes)).all()
    # An id that nobody else wants and nobody has stays, unless others of its prefix need room.
    if len(np.unique(np.concatenate([taken, wanted]), axis=0)) == n + len(taken):
        assert codes.tolist() == wanted.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5), st.integers(1, 12))
def test_spill_is_the_cheapest_move_first(seed, size, n):
    rng = np.random.default_rng(seed)
    book, residual = rng.normal(size=(size, 2)), rng.normal(size=(n, 2))
    free = rng.integers(0, 4, size)
    free[0] += max(0, n - free.sum())
    wanted = squared_distances(residual, book).argmin(axis=1)
    costs, slow = squared_distances(residual, book), wanted.copy()
    while (np.bincount(slow, minlength=size) > free).any():
        held = np.bincount(slow, minlength=size)
        moves = [
            (costs[i, k] - costs[i, slow[i]], i, k)
            for i in range(n)
            for k in range(size)
            if held[slow[i]] > free[slow[i]] and held[k] < free[k]
        ]
        _, i, k = min(moves)
        slow[i] = k
    assert spill(residual, wanted, book, free).tolist() == slow.tolist()


def test_thousands_of_identical_items():
    books = [column(*range(8)), column(*range(8)), column(*range(64))]
    vectors = np.zeros((8 * 8 * 64, 1), dtype=np.float32)
    codes = unique_codes(vectors, nearest_codes(vectors, books), books)
    assert len(np.unique(codes, axis=0)) == len(vectors)


def test_one_item_and_none():
    books = [column(0, 1), column(0, 1)]
    assert unique_codes(column(1), np.array([[1, 0]]), books).tolist() == [[1, 0]]
    assert unique_codes(np.zeros((0, 1)), np.zeros((0, 2), dtype=np.int64), books).shape == (0, 2)


def test_nan_is_a_user_error_with_its_row():
    with pytest.raises(UserError, match="row 1: NaN"):
        unique_codes(column(0, np.nan), np.zeros((2, 1), dtype=np.int64), [column(0, 1)])


def test_chunks_of_rows_do_not_change_nearest_codes():
    vectors = np.random.default_rng(0).normal(size=(9000, 3)).astype(np.float32)
    books = [vectors[:7], 0.1 * vectors[7:12]]
    parts = np.concatenate([nearest_codes(vectors[:100], books), nearest_codes(vectors[100:], books)])
    assert nearest_codes(vectors, books).tolist() == parts.tolist()
    left = ((vectors - reconstruct(parts, books)) ** 2).sum(axis=1)
    assert np.allclose(left, squared_distances(vectors - books[0][parts[:, 0]], books[1]).min(axis=1), atol=1e-5)
