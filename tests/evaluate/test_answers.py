import math

import polars as pl
import pytest
from test_metrics import slate

from gr2.errors import UserError
from gr2.evaluate.answers import counts, from_items, from_order, from_scores, settle
from gr2.evaluate.retest import check_names, read_answers
from gr2.types import AnswerStatus, Ranking

ASKED = slate((0, 1, 0))
KEPT = (0, 1, 2)


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ((2, 0, 1), AnswerStatus.VALID),
        ((2, 0), AnswerStatus.PARTIAL),
        ((), AnswerStatus.PARTIAL),
        ((2, 0, 0), AnswerStatus.DUPLICATE),
        ((2, 0, 1, 1), AnswerStatus.DUPLICATE),
        ((2, 0, 3), AnswerStatus.UNKNOWN_ITEM),
        ((2, 0, -1), AnswerStatus.UNKNOWN_ITEM),
        (None, AnswerStatus.UNANSWERED),
    ],
)
def test_a_bad_order_has_a_name_and_the_incoming_order(order, status) -> None:
    ranking = from_order(ASKED, order)
    assert ranking.status is status
    assert ranking.order == (order if status is AnswerStatus.VALID else KEPT)


def test_items_are_their_positions() -> None:
    assert from_items(ASKED, ["c2", "c0", "c1"]).order == (2, 0, 1)
    assert from_items(ASKED, ["c2", "c0", "elsewhere"]).status is AnswerStatus.UNKNOWN_ITEM
    assert from_items(ASKED, None).status is AnswerStatus.UNANSWERED


@pytest.mark.parametrize(
    ("scores", "order", "tied"),
    [
        ((0.1, 0.3, 0.2), (1, 2, 0), 0),
        ((1.0, 2.0, 2.0), (1, 2, 0), 2),
        ((0.0, 0.0, 0.0), KEPT, 3),
        ((-math.inf, 0.0, math.inf), (2, 1, 0), 0),
    ],
)
def test_ties_are_counted_and_settled_by_the_incoming_order(scores, order, tied) -> None:
    ranking = from_scores(ASKED, scores)
    assert (ranking.order, ranking.tied, ranking.status) == (order, tied, AnswerStatus.VALID)


@pytest.mark.parametrize(
    ("scores", "status"),
    [
        ((0.1, math.nan, 0.2), AnswerStatus.NAN_SCORE),
        ((0.1, 0.2), AnswerStatus.PARTIAL),
        ((0.1, 0.2, 0.3, 0.4), AnswerStatus.UNKNOWN_ITEM),
        (None, AnswerStatus.UNANSWERED),
    ],
)
def test_bad_scores_have_a_name_and_the_incoming_order(scores, status) -> None:
    ranking = from_scores(ASKED, scores)
    assert (ranking.order, ranking.status) == (KEPT, status)


def test_answers_are_settled_and_counted() -> None:
    slates = [slate((0, 1, 0), f"u:{i}") for i in range(4)]
    rankings = settle(slates, {"u:0": (2, 1, 0), "u:1": (1, 1, 0), "u:3": (0, 1, 2)})
    assert [r.slate_id for r in rankings] == ["u:0", "u:1", "u:2", "u:3"]
    assert counts(rankings) == {"duplicate": 1, "unanswered": 1, "valid": 2, "tied": 0, "repaired": 0}
    mended = Ranking(slate_id="u:1", order=(1, 0, 2), status=AnswerStatus.DUPLICATE)
    assert counts([mended, from_scores(ASKED, (1, 1, 0))])["repaired"] == 1
    assert counts([mended, from_scores(ASKED, (1, 1, 0))])["tied"] == 1
    with pytest.raises(UserError, match="slate z:1: answered, but not among"):
        settle(slates, {"z:1": (0, 1, 2)})


def test_an_answers_file(tmp_path) -> None:
    slates = [slate((0, 1, 0), f"u:{i}") for i in range(3)]
    path = tmp_path / "answers.parquet"
    pl.DataFrame({"slate_id": ["u:2", "u:0"], "items": [["c1", "c0", "c2"], ["c1", "c0"]]}).write_parquet(path)
    assert [(r.order, r.status.value) for r in read_answers(path, slates)] == [
        (KEPT, "partial"),
        (KEPT, "unanswered"),
        ((1, 0, 2), "valid"),
    ]
    pl.DataFrame({"slate_id": ["u:0"], "scores": [[0.1, None, 0.3]]}).write_parquet(path)
    assert read_answers(path, slates)[0].status is AnswerStatus.NAN_SCORE
    for table, complaint in (
        (pl.DataFrame({"slate_id": ["u:0"], "order": [[1, 0, 2]]}), "give slate_id and either"),
        (pl.DataFrame({"slate_id": ["u:0", "u:0"], "scores": [[1.0], [2.0]]}), "1 slates stand there twice"),
        (pl.DataFrame({"slate_id": ["z"], "scores": [[1.0]]}), "slate z is no test slate"),
    ):
        table.write_parquet(path)
        with pytest.raises(UserError, match=complaint):
            read_answers(path, slates)
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_answers(tmp_path / "absent.parquet", slates)


@pytest.mark.parametrize("name", ["incoming", "../evil", "", "answers.parquet"])
def test_answers_take_no_rankers_place_and_leave_no_folder(name):
    check_names(["ours-2"], {"incoming"})
    with pytest.raises(UserError, match="give NAME=FILE"):
        check_names([name], {"incoming"})
