"""Clicks of logged slates as rewards: weighted by how likely their places are looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_slates import slate_of

from gr2.errors import UserError
from gr2.evaluate.propensity import Examination
from gr2.reward.clicks import as_they_are, debiased
from gr2.stages.s10_direct import policy_loss

PLACES = Examination(propensities=np.array([1.0, 0.5, 0.01]), source="given")


def shown(name: str, gains: tuple[int, ...]):
    return replace(slate_of(gains), slate_id=name)


def test_clicks_weigh_by_hand():
    slates = [shown("a", (1, 0, 0)), shown("b", (0, 1, 2))]
    gains, weights = debiased(slates, PLACES, clip=10, table="direct")(slates)
    # 2^g - 1 is weighted by 1, 2 and, clipped, 10
    torch.testing.assert_close(2**gains - 1, torch.tensor([[1.0, 0, 0], [0, 2, 30]]))
    # a slate weighs its clicks, 1 and 2 + 10, over their mean
    torch.testing.assert_close(weights, torch.tensor([[1 / 6.5], [12 / 6.5]]))
    gains, weights = as_they_are(slates)
    assert gains.tolist() == [[1, 0, 0], [0, 1, 2]]
    assert weights.tolist() == [[1], [1]]


def test_where_every_place_is_looked_at_nothing_changes():
    slates = [shown("a", (1, 0, 0)), shown("b", (0, 0, 1))]
    everywhere = Examination(propensities=np.ones(3), source="given")
    for mine, plain in zip(
        debiased(slates, everywhere, clip=10, table="direct")(slates), as_they_are(slates), strict=True
    ):
        assert mine.tolist() == plain.tolist()


def test_a_click_that_few_could_make_pulls_harder():
    """Two slates alike but for the place of the click: the gradients are as 1 to 2."""
    slates = [shown("a", (1, 0, 0)), shown("b", (0, 1, 0))]
    pulls = []
    for one, gains in zip(slates, ([[1, 0, 0]], [[1, 0, 0]]), strict=True):
        _, weight = debiased(slates, PLACES, clip=10, table="direct")([one])
        scores = torch.zeros(1, 3, requires_grad=True)
        torch.manual_seed(0)
        policy_loss(scores, torch.tensor(gains), 64, weight)[0].backward()
        pulls.append(scores.grad)
    torch.testing.assert_close(pulls[1], 2 * pulls[0])


@pytest.mark.parametrize(
    ("examination", "why"),
    [(None, "were not logged"), (Examination(propensities=None, source="too few swaps"), "too few swaps")],
)
def test_without_known_chances_the_key_is_refused(examination, why):
    with pytest.raises(UserError, match=rf"\[direct\] click_clip: .*{why}.*; leave click_clip out"):
        debiased([], examination, clip=10, table="direct")
