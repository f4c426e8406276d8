"""What networks read of a person's newest events."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ranked import slate

from gr2.advice.past import EVENTS, UNKNOWN, WIDTH, Past, principal
from gr2.types import DAY, Split

ROW = {name: i for i, name in enumerate("abcdef")}
TEXTS = torch.arange(12.0).view(6, 2)


def past(*slates) -> Past:
    return Past.of(slates, ROW, TEXTS)


def test_events_are_the_newest_first_and_as_old_as_they_are():
    """Up to a day is 0, a week 1, 30 days 2, 182 days 3, longer 4; a bound itself is of the longer kind."""
    asked = slate("u:0", Split.TEST, ("a", "b", "c", "d", "e"), ("f", "a"), 0)
    now = 1_000 * DAY
    days = (300, 181, 30, 6, 0.5)
    asked = replace(asked, time=now, history_times=tuple(int(now - d * DAY) for d in days))
    read = past(asked)
    assert read.candidates_SK.tolist() == [[5, 0]]
    assert read.events_SE[0, :5].tolist() == [4, 3, 2, 1, 0]
    assert read.events_SE[0, 5:].tolist() == [-1] * (EVENTS - 5)
    assert read.ages_SE[0, :5].tolist() == [0, 1, 3, 3, 4]


def test_without_times_no_age_is_known_and_only_the_newest_are_read():
    long = slate("u:0", Split.TEST, ("a",) + ("b", "c") * (EVENTS // 2), ("f", "a"), 0)
    read = past(long)
    assert read.events_SE[0].tolist() == [2, 1] * (EVENTS // 2)
    assert read.ages_SE[0].tolist() == [UNKNOWN] * EVENTS


def test_reading_gives_the_texts_of_what_is_there():
    read = past(slate("u:0", Split.TEST, ("c", "b"), ("f", "a"), 0), slate("v:0", Split.TEST, (), ("d", "e", "f"), 0))
    candidates, events, there, _ = read.at(torch.tensor([1, 0])).read()
    assert candidates[0].tolist() == TEXTS[[3, 4, 5]].tolist()
    assert candidates[1, :2].tolist() == TEXTS[[5, 0]].tolist()
    assert there.tolist() == [[False] * EVENTS, [True, True] + [False] * (EVENTS - 2)]
    assert events[1, :2].tolist() == TEXTS[[1, 2]].tolist()


def test_texts_keep_the_directions_in_which_a_catalogue_differs():
    """Of vectors that differ in two directions alone all distances stay, but for one scale."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 100)) + rng.normal(size=100)
    read = principal(vectors).numpy()
    assert read.mean(0) == pytest.approx(np.zeros(read.shape[1]), abs=1e-4)
    apart = [np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(50, 1)] for x in (vectors, read)]
    assert apart[1] / apart[0] == pytest.approx(np.full(1225, (apart[1] / apart[0])[0]), rel=1e-3)
    many = principal(rng.normal(size=(300, 100)))
    assert many.shape == (300, WIDTH)
    assert float(many.std()) == pytest.approx(1, rel=1e-2)
