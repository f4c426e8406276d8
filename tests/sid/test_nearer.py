import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.sid.assign import nearest_codes, reconstruct, unique_codes
from gr2.sid.nearer import WITHIN, nearer_ids


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def error(vectors, codes, books):
    return ((vectors - reconstruct(codes, books)).astype(np.float64) ** 2).sum()


def test_another_prefix_is_nearer_than_the_free_last_code():
    books = [column(0), column(0, 3), column(0, 50)]
    vectors, wanted = column(1.0, 1.5), np.zeros((2, 3), dtype=np.int64)
    plain = unique_codes(vectors, wanted, books)
    # 1.5 to 50 is 48.5^2 for 1.5^2, less dear than 49^2 for 1^2
    assert plain.tolist() == [[0, 0, 0], [0, 0, 1]]
    # under the other second code it is 3: 1.5^2
    assert nearer_ids(vectors, wanted, plain, books).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_an_error_that_is_small_enough_stays():
    # 10 items with an error of 1 each are left alone; the one that moved adds .1 to 10: 1 %
    books = [column(*range(0, 1100, 100)), column(0, 5), column(1, 1.05)]
    vectors = column(*(100 * k for k in range(10)), 0)
    wanted = nearest_codes(vectors, books)
    plain = unique_codes(vectors, wanted, books)
    assert (wanted != plain).sum() == 1
    assert error(vectors, plain, books) < (1 + WITHIN) * error(vectors, wanted, books)
    assert nearer_ids(vectors, wanted, plain, books).tolist() == plain.tolist()


def test_two_levels_are_left_alone():
    codes = np.array([[0, 1], [0, 0]])
    assert nearer_ids(column(0, 9), np.zeros_like(codes), codes, [column(0), column(0, 9)]) is codes


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([(2, 3, 3), (3, 2, 2, 2)]), st.integers(1, 5), st.data())
def test_unique_with_its_first_codes_and_never_worse(seed, sizes, distinct, data):
    n = data.draw(st.integers(1, int(np.prod(sizes))))
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(distinct, 2)).astype(np.float32)[rng.integers(0, distinct, n)]
    books = [rng.normal(size=(size, 2)).astype(np.float32) for size in sizes]
    wanted = nearest_codes(vectors, books)
    plain = unique_codes(vectors, wanted, books)
    codes = nearer_ids(vectors, wanted, plain, books)
    assert len(np.unique(codes, axis=0)) == n
    assert (codes[:, 0] == plain[:, 0]).all()
    assert ((codes == plain) | (plain != wanted).any(axis=1)[:, None]).all()
    assert error(vectors, codes, books) <= error(vectors, plain, books) * (1 + 1e-6)
