"""Scores of legacy re-rankers on disk: the same numbers, the same rankings, and a slate that nobody was asked about."""

import numpy as np
import pytest
from ranked import slate

from gr2.baselines.legacy_scores import FILE, LegacyScores
from gr2.errors import UserError
from gr2.types import Split

SLATES = [slate("u:3", Split.TEST, (), ("a", "b", "c"), 0), slate("v:1", Split.VALID, (), ("d", "e"), 1)]
SAID = {"one": np.array([[1 / 3, 2, -1], [np.inf, 0, 9]]), "other": [np.array([5, 5, 6]), np.array([0, 1])]}


def test_what_is_read_is_what_was_written(tmp_path):
    LegacyScores.of(SLATES, SAID).save(tmp_path)
    again = LegacyScores.load(tmp_path)
    # slates may be asked for in any order, and 9 stood behind the last candidate
    assert [scores.tolist() for scores in again.scores("one", SLATES[::-1])] == [[np.inf, 0], [1 / 3, 2, -1]]
    assert [ranking.order for ranking in again.rank("one", SLATES)] == [(1, 0, 2), (0, 1)]
    first, second = again.rank("other", SLATES)
    assert (first.order, first.tied) == ((2, 0, 1), 2)
    assert second.order == (1, 0)


def test_a_slate_that_nobody_was_asked_about_is_told():
    with pytest.raises(UserError, match="v:1: no legacy re-ranker was asked; run s12_legacy again"):
        LegacyScores.of(SLATES[:1], {"one": SAID["one"][:1]}).rank("one", SLATES)


def test_a_torn_file_is_told(tmp_path):
    LegacyScores.of(SLATES, SAID).save(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=FILE.replace(".", r"\.")):
        LegacyScores.load(tmp_path)
