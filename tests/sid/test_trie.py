import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.sid.trie import Trie

code_sets = st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1)
wide_sets = st.sets(st.tuples(st.integers(0, 300), st.integers(0, 5), st.integers(0, 70_000)), min_size=1, max_size=40)


def test_allowed():
    trie = Trie([(0, 1), (0, 0), (2, 1)])
    assert trie.allowed(()) == (0, 2)
    assert trie.allowed((0,)) == (0, 1)
    assert trie.allowed((2,)) == (1,)
    assert len(trie) == 3


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ((1,), "starts no id"),
        ((-1,), "starts no id"),
        ((0, 1), "is a whole id"),
        ((0, 0), "no id"),
        ((9, 9, 9), "no id"),
    ],
)
def test_never_an_empty_answer(prefix, reason):
    with pytest.raises(ValueError, match=reason):
        Trie([(0, 1), (2, 1)]).allowed(prefix)


def test_empty_mixed_and_negative_are_errors():
    for nothing in ([], np.zeros((0, 3), dtype=np.int64)):
        with pytest.raises(ValueError, match="at least one"):
            Trie(nothing)
    with pytest.raises(ValueError, match="one length"):
        Trie([(1, 2), (1,)])
    with pytest.raises(ValueError, match="from 0 on"):
        Trie([(1, -2)])


def test_restrict():
    trie = Trie([(0, 1), (0, 0), (2, 1)])
    assert trie.restrict([(0, 1), (2, 1)]).allowed((0,)) == (1,)
    with pytest.raises(ValueError, match="at least one"):
        trie.restrict([])
    with pytest.raises(ValueError, match=r"not in the trie: \(1, 1\)"):
        trie.restrict([(0, 1), (1, 1)])


def test_mask():
    trie = Trie([(0, 1), (0, 3), (2, 1)])
    assert trie.mask(np.zeros((2, 0)), 4).tolist() == [[True, False, True, False]] * 2
    assert trie.mask(np.array([[2], [0]]), 4).tolist() == [[False, True, False, False], [False, True, False, True]]
    for prefixes, size, reason in [
        ([[0], [1]], 4, r"\(1,\) starts no id"),
        ([[-1]], 4, "starts no id"),
        ([[0]], 3, "not below 3"),
        ([[0, 1]], 4, "whole ids"),
    ]:
        with pytest.raises(ValueError, match=reason):
            trie.mask(np.array(prefixes), size)


@settings(deadline=None)
@given(code_sets)
def test_walking_the_trie_yields_exactly_its_ids(codes):
    trie = Trie(codes)
    walked = [(a, b, c) for a in trie.allowed(()) for b in trie.allowed((a,)) for c in trie.allowed((a, b))]
    assert walked == sorted(codes)


@settings(deadline=None)
@given(wide_sets, st.integers(0, 2), st.randoms())
def test_equals_a_dict_of_sets_at_every_position(codes, length, random):
    children: dict[tuple[int, ...], set[int]] = {}
    for row in codes:
        for level, code in enumerate(row):
            children.setdefault(row[:level], set()).add(code)
    twice = [row for row in codes for _ in range(2)]
    random.shuffle(twice)
    trie = Trie(twice)
    assert all(trie.allowed(prefix) == tuple(sorted(after)) for prefix, after in children.items())
    assert all(row in trie for row in codes)
    assert (9, 9, 70_001) not in trie
    prefixes = sorted(prefix for prefix in children if len(prefix) == length)
    mask = trie.mask(np.array(prefixes).reshape(len(prefixes), length), 70_001)
    assert [set(np.flatnonzero(row).tolist()) for row in mask] == [children[prefix] for prefix in prefixes]


def test_memory_is_a_few_bytes_an_id():
    rng = np.random.default_rng(0)
    trie = Trie(rng.integers(0, 256, (20_000, 4)))
    # a last code is one byte; the two levels above, of one node an id at most, are one code and one 4 or 2 byte offset
    assert trie.nbytes < len(trie) * (1 + 2 * 5) + 256 * 3 + 3 * 4
