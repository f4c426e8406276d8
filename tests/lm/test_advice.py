"""What the neighbours' votes count: by hand, and as a property of rankings."""

from dataclasses import replace

import pytest
import shop
import torch

from gr2.lm.advice import fit_advice, log_votes
from gr2.lm.checkpoint import Checkpoint
from gr2.lm.rank import rank_in_one_pass
from gr2.retrieve.neighbours import NO_VOTE
from gr2.types import Slate, Split


def slate(votes: tuple[float, ...], target: int) -> Slate:
    return Slate(
        slate_id="s",
        user_id="u",
        split=Split.TRAIN,
        time=0,
        history=(),
        candidates=tuple("ab"),
        scores=(1.0, 0.0),
        gains=(int(target == 0), int(target == 1)),
        votes=votes,
    )


def test_weight_by_hand():
    # Votes e times apart; 3 of 4 follow them: the weight w has sigmoid(w) = 3 / 4, so w = log 3.
    votes = (torch.e - NO_VOTE, 1 - NO_VOTE)
    assert fit_advice([slate(votes, t) for t in (0, 0, 0, 1)]) == pytest.approx(1.0986, abs=1e-4)


def test_no_votes_no_weight():
    assert fit_advice([slate((), 0), slate((0.0, 0.0), 1)]) == 0
    assert log_votes([slate((), 0)]).tolist() == [pytest.approx([0, 0], abs=1e-6)]


def test_a_great_weight_ranks_by_votes(tmp_path):
    checkpoint = replace(shop.checkpoint(), advice=1e6)
    slates = [replace(s, votes=tuple(map(float, range(len(s.candidates))))) for s in shop.slates(3, Split.TEST)]
    for ranking in rank_in_one_pass(checkpoint, slates, batch_size=2, label=None):
        assert list(ranking.order) == list(range(shop.K))[::-1]
    checkpoint.save(tmp_path)
    assert Checkpoint.load(tmp_path, shop.corpus(), shop.semantic_ids()).advice == 1e6
