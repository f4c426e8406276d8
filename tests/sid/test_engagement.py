from math import log

import numpy as np
from scipy.sparse import csr_matrix

from gr2.sid.engagement import _counts, co_engaged_pairs, co_visitation_vectors, ppmi

ROW = {"a": 0, "b": 1, "c": 2, "d": 3}


def test_counts_decay_with_distance_and_stay_within_user_and_window():
    counts = _counts([("a", "b", "c"), ("c", "a")], ROW, window=2).toarray()
    # user 1: a-b 1, b-c 1, a-c 1/2; user 2: c-a 1; nothing between the users' c and c
    assert counts.tolist() == [[0, 1, 1.5, 0], [1, 0, 1, 0], [1.5, 1, 0, 0], [0, 0, 0, 0]]
    assert _counts([("a", "b", "c")], ROW, window=1).toarray()[0].tolist() == [0, 1, 0, 0]


def test_an_item_is_not_its_own_neighbour():
    assert _counts([("a", "a", "b")], ROW, window=1).toarray()[0].tolist() == [0, 1, 0, 0]


def test_ppmi_value():
    counts = csr_matrix(np.array([[0.0, 4, 0], [4, 0, 1], [0, 1, 0]]))
    context = 4**0.75 + 5**0.75 + 1
    value = ppmi(counts).toarray()
    assert value[0, 1] == value.max() or value[2, 1] == value.max()
    assert np.isclose(value[0, 1], log(4 * context / (4 * 5**0.75)))
    assert np.isclose(value[2, 1], log(1 * context / (1 * 5**0.75)))
    assert value[0, 0] == value[0, 2] == 0


def test_vectors_keep_two_tastes_apart_and_unseen_items_zero():
    row = {i: n for n, i in enumerate("abcdefz")}
    sequences = [tuple("abcabc"), tuple("cba"), tuple("defdef"), tuple("fed")]
    vectors = co_visitation_vectors(sequences, row, dims=4, window=2)
    assert vectors.shape == (7, 4)
    assert vectors.dtype == np.float32
    assert not vectors[row["z"]].any()
    near, far = vectors[0] @ vectors[1], vectors[0] @ vectors[3]
    assert near > 0.1
    assert abs(far) < 1e-4


def test_more_dims_than_items_and_no_events():
    row = {"a": 0, "b": 1, "c": 2}
    vectors = co_visitation_vectors([("a", "b", "c")], row, dims=5, window=1)
    assert vectors.shape == (3, 5)
    assert not vectors[:, 2:].any()
    assert not co_visitation_vectors([], row, dims=2, window=1).any()
    assert not co_visitation_vectors([("a",)], {"a": 0}, dims=2, window=3).any()


def test_same_answer_twice():
    rng = np.random.default_rng(0)
    row = {str(i): i for i in range(30)}
    sequences = [tuple(str(i) for i in rng.integers(0, 30, 20)) for _ in range(20)]
    first = co_visitation_vectors(sequences, row, dims=8, window=3)
    assert np.array_equal(first, co_visitation_vectors(sequences, row, dims=8, window=3))


def test_pairs_are_both_ways_once_an_occurrence_and_blind_to_the_order_of_users():
    row = {"a": 0, "b": 1, "c": 2}
    pairs = co_engaged_pairs([("a", "b", "c"), ("b", "a"), ("c", "c")], row, window=1)
    assert pairs.tolist() == [[0, 1], [0, 1], [1, 0], [1, 0], [1, 2], [2, 1]]
    assert pairs.tolist() == co_engaged_pairs([("c", "c"), ("b", "a"), ("a", "b", "c")], row, window=1).tolist()
    assert co_engaged_pairs([("a", "b", "c")], row, window=2).tolist() == [
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 2],
        [2, 0],
        [2, 1],
    ]
    assert co_engaged_pairs([], row, window=2).shape == (0, 2)
