"""The whole stage, from folder to folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cinema import cinema, write_run
from pydantic import ValidationError

from gr2.advice.advisor import Advisor
from gr2.artifacts import Rankings, SemanticIds, Slates, Traces
from gr2.record import is_complete, read_json
from gr2.stages.s05_traces import NAME, Config, main, teach
from gr2.types import Slate, Split

CONFIG = Config(attempts=4, folds=3)


def test_the_stage_writes_what_it_says(tmp_path: Path) -> None:
    _, slates = cinema()
    write_run(tmp_path)
    main(tmp_path, CONFIG, seed=0)
    folder = tmp_path / NAME
    summary = read_json(folder / "summary.json")
    traces = Traces.load(folder)
    assert is_complete(folder)
    assert len(traces.traces) == summary["n"] == len(slates.split(Split.TRAIN))
    assert len(traces.kept()) == summary["kept"] == sum(b["kept"] for b in summary["by_incoming_rank"].values())
    for split in (Split.VALID, Split.TEST):
        rankings = Rankings.load(folder / f"teacher_{split.value}")
        assert [r.slate_id for r in rankings.rankings] == [s.slate_id for s in slates.split(split)]
        advised = Slates.load(folder).split(split)
        assert [replace(s, advice=()) for s in advised] == list(slates.split(split))
        hits = [int(np.argmax(s.advice)) == s.target for s in advised]
        assert summary["teacher"][split.value]["r_at_1"] == pytest.approx(np.mean(hits))
        assert np.mean(hits) > 0.6  # of six; a viewer stays in a chain in 80 %
    advisor = Advisor.load(folder, cinema()[0], SemanticIds.load(tmp_path / "02_sids").codes)
    test = slates.split(Split.TEST)
    assert [s.advice for s in advisor.advise(test)] == [s.advice for s in Slates.load(folder).split(Split.TEST)]
    # The plain first attempt of a trace is what the advice has first; training slates have that of others.
    train = Slates.load(folder).by_id
    assert all(t.order[0] == int(np.argmax(train[t.slate_id].advice)) for t in traces.traces if t.attempt == 0)


def test_every_refused_attempt_is_counted() -> None:
    """A slate kept at attempt a was refused a times, one never kept `attempts` times."""
    taught = teach(*cinema(), CONFIG, seed=0)
    refused = sum(t.attempt + (not t.kept) for t in taught.traces.traces)
    assert sum(taught.summary["refusals"].values()) == refused


def test_the_seed_decides() -> None:
    first, again, other = (teach(*cinema(), CONFIG, seed) for seed in (0, 0, 1))
    assert first.traces == again.traces
    assert json.dumps(first.summary) == json.dumps(again.summary)
    assert first.traces != other.traces


def test_held_out_rankings_do_not_depend_on_the_targets() -> None:
    corpus, slates = cinema()

    def moved(s: Slate) -> Slate:
        return s if s.split is Split.TRAIN else replace(s, gains=s.gains[::-1])

    before = teach(corpus, slates, CONFIG, 0)
    after = teach(corpus, Slates(slates=tuple(map(moved, slates.slates))), CONFIG, 0)
    assert before.rankings == after.rankings
    assert before.summary["teacher"]["test"] != after.summary["teacher"]["test"]


def test_targeted_keeps_every_slate() -> None:
    taught = teach(*cinema(), Config(strategy="targeted", folds=3), seed=0)
    assert taught.summary["kept_share"] == 1
    assert taught.summary["refusals"] == {}


def test_no_more_history_is_cited_than_is_looked_at() -> None:
    with pytest.raises(ValidationError, match="cited_history"):
        Config(cited_history=31)
