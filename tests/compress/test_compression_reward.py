"""The compressor's reward (method §5), worked out by hand."""

from math import log2

import pytest

from gr2.compress.reward import compression_reward, read_back
from gr2.types import Item

GAINS = (0, 1, 0)


def test_a_solvable_context_counts_quality_most():
    found = compression_reward(order=(1, 0, 2), gains=GAINS, read=0.5, share=0.2, alpha=0.25)
    assert (found.solvable, found.preservation, found.quality) == (True, 5.5, 10)
    assert found.shortness == pytest.approx(0.8)
    assert found.total == pytest.approx(0.25 * 0.8 + 0.75 * (0.2 * 5.5 + 0.8 * 10) / 10)


def test_another_counts_preservation_most():
    found = compression_reward(order=(0, 1, 2), gains=GAINS, read=0, share=1, alpha=0)
    quality = 1 + 9 / log2(3)
    assert (found.solvable, found.preservation, found.shortness) == (False, 1, 0)
    assert found.quality == pytest.approx(quality)
    assert found.total == pytest.approx((0.8 * 1 + 0.2 * quality) / 10)


def test_a_context_longer_than_the_whole_is_not_short():
    assert compression_reward(order=(1, 0, 2), gains=GAINS, read=1, share=1.5, alpha=1).total == 0


def test_what_can_be_read_back_by_hand():
    a = Item(item_id="a", title="A", categories=("x", "y"), brand="b1")
    b = Item(item_id="b", title="B", categories=("x",))
    c = Item(item_id="c", title="C", categories=("z",), brand="b2")
    assert read_back([a, b, a, c], [b]) == pytest.approx((1 / 4 + 3 / 6 + 0 / 3) / 3)
    assert read_back([a, b, a, c], [a, c]) == pytest.approx((3 / 4 + 6 / 6 + 3 / 3) / 3)
    assert read_back([b, b], [b]) == 1  # without a brand
