"""The stage on the made-up shop: a policy finds out which events tell the taste, and the table compares it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import shop
import torch

from gr2.artifacts import Corpus, Slates
from gr2.compress.__main__ import compare
from gr2.compress.context import Compressor
from gr2.lm.train import FitConfig
from gr2.record import RECORD, StageFolder, is_complete, read_json, stage_folder
from gr2.stages.s09_compress import NAME, Config, Lesson, main, train, untrained
from gr2.types import Split, Timeline

HISTORY = 70


def judged(slates):
    """The target is first where the history names an item of the first department, and last where it does not."""

    def order(slate):
        others = [c for c in range(len(slate.candidates)) if c != slate.target]
        told = any(item.startswith("i0") for item in slate.history)
        return (slate.target, *others) if told else (*others, slate.target)

    return [order(s) for s in slates]


def busy(n: int, split: Split) -> list:
    """Slates whose histories have one event of the first department, at a random place, and eleven others."""
    rng = np.random.default_rng(0)
    made = []
    for slate in shop.slates(n, split):
        history = [shop.item_id(int(rng.integers(1, 6)), int(rng.integers(4))) for _ in range(11)]
        history.insert(int(rng.integers(12)), shop.item_id(0, int(rng.integers(4))))
        made.append(replace(slate, history=tuple(history)))
    return made


def test_the_policy_learns_which_event_the_judge_needs(tmp_path):
    torch.manual_seed(0)
    corpus = shop.corpus()
    config = Config(
        newest=12,
        share=0.25,
        at_least=2,
        alpha=0.2,
        fit=FitConfig(steps=120, batch_size=8, learning_rate=5e-2, warmup_steps=5, weight_decay=0),
    )
    compressor = untrained(shop.checkpoint(), corpus, config)
    first = torch.tensor([float(i.item_id.startswith("i0")) for i in corpus.items])
    compressor = replace(compressor, catalogue=replace(compressor.catalogue, popularity=first))
    items = {item.item_id: item for item in corpus.items}
    lesson = Lesson(compressor=compressor, judge=judged, items=items, config=config)
    test = busy(200, Split.TEST)

    def told() -> float:
        kept = [compressor.compress(s.history) for s in test]
        assert all(len(events) <= 2 for events in kept)
        return sum(any(i.startswith("i0") for i in events) for events in kept) / len(test)

    before = told()
    train(lesson, busy(300, Split.TRAIN), busy(50, Split.VALID), 0, StageFolder(path=tmp_path, resumed=False))
    assert before < 0.3
    assert told() > 0.9
    assert not any((tmp_path / "checkpoint_compress").glob("*"))


@pytest.fixture
def run(tmp_path):
    """A run folder with what the stage reads, of users with long timelines."""
    rng = np.random.default_rng(0)
    timelines = tuple(
        Timeline(
            user_id=f"u{u}",
            item_ids=tuple(shop.item_id(int(d), int(s)) for d, s in rng.integers(0, (6, 4), (HISTORY, 2))),
            times=tuple(range(HISTORY)),
            splits=(Split.TRAIN,) * HISTORY,
        )
        for u in range(12)
    )
    corpus = Corpus(items=shop.items(), timelines=timelines)
    slates = tuple(
        replace(slate, user_id=f"u{n}", slate_id=f"{split}:{n}", history=timelines[n].item_ids[-50 - n : -n])
        for split in Split
        for n, slate in enumerate(shop.slates(11, split))
        if n
    )
    made = {
        "01_corpus": corpus,
        "02_sids": shop.semantic_ids(),
        "05_traces": Slates(slates=slates),
        "08_rl": shop.checkpoint(),
        "10_direct": shop.checkpoint(1),
    }
    for name, artifact in made.items():
        with stage_folder(tmp_path / name, {}, {}) as work:
            artifact.save(work.path)
    made["05_traces"].save(tmp_path / "10_direct")  # the direct stage keeps the slates with their advice
    return tmp_path


CONFIG = Config(newest=64, draws=2, valid_slates=4, fit=FitConfig(steps=4, batch_size=2, learning_rate=1e-2))


def test_the_stage_writes_a_compressor_and_every_context(run):
    main(run, CONFIG, 0)
    counts = read_json(run / NAME / RECORD)["counts"]
    assert counts["contexts"] == 10  # three splits have the same histories
    assert counts["kept"] < 0.2
    compressor = Compressor.load(run / NAME, Corpus.load(run / "01_corpus"), shop.semantic_ids())
    assert sorted(p.name for p in (run / NAME).iterdir()) == [
        "compressor.json",
        "compressor.safetensors",
        "contexts.parquet",
        "metrics.jsonl",
        "record.json",
    ]
    assert len(compressor.cache) == 10


def test_the_same_seed_makes_the_same_folder(run):
    digests = []
    for _ in range(2):
        main(run, CONFIG, 0)
        digests.append(read_json(run / NAME / RECORD)["digest"])
    assert digests[0] == digests[1]


def test_left_out_it_is_complete_and_empty(run):
    main(run, Config(), 0)
    assert is_complete(run / NAME)
    assert [p.name for p in (run / NAME).iterdir()] == [RECORD]


def test_the_table_compares_all_with_the_whole_context(run):
    main(run, CONFIG, 0)
    page = compare(run)
    rows = json.loads((run / "compress.json").read_text())["table"]
    assert len(rows) == 2 * 8
    long = {row["name"]: row for row in rows if row["group"].startswith("histories")}
    assert long["whole"]["n"] == 10
    assert long["whole"]["context_share"] == 1
    assert long["whole"]["metrics"]["R@3"]["difference"] == [0, 0, 0]
    assert (long["compressor"]["over_budget"], long["newest 5"]["over_budget"]) == (0, 0)
    assert long["last n"]["context_share"] == long["compressor"]["context_share"] < 0.2
    assert read_json(run / "compress.json")["costs"]["hits"] == 10
    assert "| compressor |" in page
