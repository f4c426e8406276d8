from hypothesis import given
from hypothesis import strategies as st

from gr2.teach.rationale import NAMED, written


def test_by_hand():
    assert written((7, 2, 9, 8, 0, 1, 3, 4, 5, 6)) == [7, 0, 1, 2, 3, 4, 5, 6, 8, 9]


@given(st.permutations(range(10)))
def test_is_a_permutation_that_keeps_the_named(order):
    assert sorted(written(order)) == list(range(10))
    assert written(order)[:NAMED] == list(order[:NAMED])
