"""Which students a model has."""

import pytest

from gr2.distill.students import depths


@pytest.mark.parametrize(
    ("layers", "kept"), [(4, [3, 2, 1]), (28, [21, 14, 7]), (30, [22, 15, 7]), (3, [2, 1]), (2, [1]), (1, [])]
)
def test_three_quarters_a_half_and_a_quarter_of_the_layers(layers, kept):
    assert depths(layers) == kept
