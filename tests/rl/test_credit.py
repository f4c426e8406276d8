"""What is true or false is credited to the words that say it."""

import torch

from gr2.rl.credit import step_advantages, step_of_each

PIECES = ["likes", " drama", " ;", " next", " war", " ;", " genre", "<s_a_1>", " ->", "<c_1>", "</think>", "<c_1>"]


def test_a_step_ends_with_its_mark_and_the_last_with_the_arrow() -> None:
    assert step_of_each(PIECES) == [0, 0, 0, 1, 1, 1, 2, 2, 2, -1, -1, -1]


def test_a_thought_without_an_arrow_ends_where_it_is_closed() -> None:
    assert step_of_each(["likes", "</think>", "<c_1>", " ;"]) == [0, -1, -1, -1]
    assert step_of_each(["likes", " ;", " ;"]) == [0, 0, 1]
    assert step_of_each([]) == []


def test_a_step_is_compared_with_the_same_step_of_its_group() -> None:
    """Two groups of two. Of two values the deviation is |a - b| / sqrt 2, so advantages are +-1/sqrt 2."""
    found = step_advantages(
        [(1.0, 0.5), (0.0, 0.5), (0.2,), (0.2, 1.0)],
        [[0, 0, 1, -1], [0, 1, -1], [0, -1], [0, 1]],
        group=2,
    )
    half = 2**-0.5
    expected = torch.tensor([[half, half, 0, 0], [-half, 0, 0, 0], [0, 0, 0, 0], [0, half, 0, 0]])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_thoughts_without_steps_earn_nothing() -> None:
    assert torch.equal(step_advantages([(), ()], [[-1], [-1, -1]], group=2), torch.zeros(2, 2))
