import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr2.sid.trie import Trie

code_sets = st.sets(st.tuples(*[st.integers(0, 3)] * 3), min_size=1)


def test_allowed():
    trie = Trie([(0, 1), (0, 0), (2, 1)])
    assert trie.allowed(()) == (0, 2)
    assert trie.allowed((0,)) == (0, 1)
    assert trie.allowed((2,)) == (1,)


@pytest.mark.parametrize(
    ("prefix", "reason"), [((1,), "starts no id"), ((0, 1), "is a whole id"), ((9, 9, 9), "no id")]
)
def test_never_an_empty_answer(prefix, reason):
    with pytest.raises(ValueError, match=reason):
        Trie([(0, 1), (2, 1)]).allowed(prefix)


def test_empty_and_mixed_are_errors():
    with pytest.raises(ValueError, match="at least one"):
        Trie([])
    with pytest.raises(ValueError, match="one length"):
        Trie([(1, 2), (1,)])


def test_restrict():
    trie = Trie([(0, 1), (0, 0), (2, 1)])
    assert trie.restrict([(0, 1), (2, 1)]).allowed((0,)) == (1,)
    with pytest.raises(ValueError, match="at least one"):
        trie.restrict([])
    with pytest.raises(ValueError, match=r"not in the trie: \(1, 1\)"):
        trie.restrict([(0, 1), (1, 1)])


@given(code_sets)
def test_walking_the_trie_yields_exactly_its_ids(codes):
    trie = Trie(codes)
    walked = [(a, b, c) for a in trie.allowed(()) for b in trie.allowed((a,)) for c in trie.allowed((a, b))]
    assert walked == sorted(codes)
