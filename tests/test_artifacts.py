import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gr2.artifacts import (
    Corpus,
    MetricValue,
    Rankings,
    Scores,
    SemanticIds,
    Slates,
    Traces,
    check_same_catalogue,
)
from gr2.errors import UserError
from gr2.retrieve.neighbours import Neighbours, remember
from gr2.types import AnswerStatus, Item, Ranking, Slate, Split, Timeline, Trace

CORPUS = Corpus(
    items=(
        Item(item_id="7", title="Alien", categories=("Horror", "Sci-Fi"), year=1979),
        Item(item_id="x", title='Ä "quoted", film'),
    ),
    timelines=(
        Timeline(user_id="b", item_ids=("7", "x", "7"), times=(1, 5, 5), splits=(Split.TRAIN, Split.VALID, Split.TEST)),
        Timeline(user_id="a", item_ids=("x",), times=(3,), splits=(Split.TRAIN,)),
    ),
)
IDS = SemanticIds(
    item_ids=("7", "x"),
    codes=np.array([[0, 1], [1, 0]]),
    codebook_sizes=(2, 3),
    codebooks=(np.eye(2, 4, dtype=np.float32), np.ones((3, 4), np.float32)),
)
SLATE = Slate(
    slate_id="b:2",
    user_id="b",
    split=Split.TEST,
    time=5,
    history=("7", "x"),
    candidates=("7", "x"),
    scores=(0.5, -0.25),
    gains=(0, 1),
)


def test_corpus_comes_back(tmp_path):
    CORPUS.save(tmp_path)
    assert Corpus.load(tmp_path) == CORPUS


def test_corpus_learns_from_training_events_only():
    assert CORPUS.train_sequences() == [("7",), ("x",)]
    assert CORPUS.row == {"7": 0, "x": 1}


def test_semantic_ids_come_back(tmp_path):
    IDS.save(tmp_path)
    loaded = SemanticIds.load(tmp_path)
    assert loaded.digest == IDS.digest
    assert loaded.of["x"].codes == (1, 0)
    assert loaded.item_of == {(0, 1): "7", (1, 0): "x"}
    np.testing.assert_array_equal(loaded.codebooks[1], IDS.codebooks[1])


def test_swapped_semantic_ids_are_refused(tmp_path):
    IDS.save(tmp_path)
    pl.DataFrame({"item_id": ["7", "x"], "codes": [[1, 0], [0, 1]]}).write_parquet(tmp_path / "ids.parquet")
    with pytest.raises(UserError, match=r"not the one sids\.json was written with"):
        SemanticIds.load(tmp_path)


def test_broken_codebooks_are_refused(tmp_path):
    IDS.save(tmp_path)
    (tmp_path / "codebooks.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"codebooks\.safetensors: unreadable"):
        SemanticIds.load(tmp_path)


def test_ids_of_another_catalogue_are_refused():
    check_same_catalogue(IDS, CORPUS.items, Path("02_sids"))
    with pytest.raises(UserError, match="02_sids: its semantic ids are another catalogue's"):
        check_same_catalogue(IDS, CORPUS.items[:1], Path("02_sids"))


def test_any_file_of_a_run_cut_in_half_is_one_line(tmp_path):
    """Each file is named, with the stage that makes it."""
    folder = tmp_path / "04_slates"
    folder.mkdir()
    trace = Trace(slate_id="b:2", thought="t", order=(1, 0), evidence="series", attempt=0, kept=True, reason="r")
    ranking = Ranking(slate_id="b:2", order=(1, 0), status=AnswerStatus.VALID)
    scores = Scores(n_slates=9, n_events=20, best_legacy="lambdamart", table={})
    written = [
        (CORPUS, Corpus.load, "items.parquet", "events.parquet"),
        (IDS, SemanticIds.load, "ids.parquet", "codebooks.safetensors", "sids.json"),
        (Slates(slates=(SLATE,)), Slates.load, "slates.parquet"),
        (Traces(traces=(trace,)), Traces.load, "traces.jsonl"),
        (Rankings(ranker="r", rankings=(ranking,)), Rankings.load, "rankings.parquet"),
        (scores, Scores.load, "summary.json"),
        (remember(CORPUS), Neighbours.load, "neighbours.safetensors"),
    ]
    for thing, load, *names in written:
        for name in names:
            thing.save(folder)
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(data[: len(data) // 2])
            with pytest.raises(UserError, match=f"{folder / name}: unreadable .*; make 04_slates again") as error:
                load(folder)
            assert "\n" not in str(error.value)


def test_slates_come_back(tmp_path):
    slates = Slates(slates=(SLATE, replace(SLATE, history_times=tuple(range(len(SLATE.history))))))
    slates.save(tmp_path)
    assert Slates.load(tmp_path) == slates
    assert slates.split(Split.TRAIN) == ()
    assert slates.by_id["b:2"].target == 1


def test_traces_come_back(tmp_path):
    kept, refused = (
        Trace(slate_id="b:2", thought="“[h1]”\nthen", order=(1, 0), evidence="series", attempt=n, kept=k, reason="r")
        for n, k in ((0, True), (1, False))
    )
    traces = Traces(traces=(kept, refused))
    traces.save(tmp_path)
    assert Traces.load(tmp_path) == traces
    assert traces.kept() == (kept,)


def test_rankings_come_back(tmp_path):
    folder = tmp_path / "gr2_direct"
    folder.mkdir()
    rankings = Rankings(
        ranker="gr2_direct",
        rankings=(Ranking(slate_id="b:2", order=(1, 0), status=AnswerStatus.DUPLICATE, thought="t"),),
    )
    rankings.save(folder)
    assert Rankings.load(folder) == rankings


def test_scores_come_back(tmp_path):
    value = MetricValue(value=0.2, low=0.1, high=0.3, n=9, p_best_legacy=0.5)
    scores = Scores(
        n_slates=9,
        n_events=20,
        best_legacy="lambdamart",
        table={"given_target": {"incoming": {"R@1": value}}},
        probes={"incoming": {"echo_share": 1.0}},
    )
    scores.save(tmp_path)
    assert Scores.load(tmp_path) == scores
    raw = json.loads((tmp_path / "summary.json").read_text())
    assert raw["table"]["given_target"]["incoming"]["R@1"]["p_incoming"] is None


@pytest.mark.parametrize("kind", [Corpus, Slates, Traces, Rankings, Scores, SemanticIds])
def test_an_absent_artifact_is_one_line(tmp_path, kind):
    with pytest.raises(UserError, match="not there; run the stage that writes it") as error:
        kind.load(tmp_path)
    assert "\n" not in str(error.value)
