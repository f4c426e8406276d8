"""`gr2 new`: its config is the one that was chosen for data of that kind, and its counts are those of the files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gr2 import new
from gr2.cli import app
from gr2.corpus.generic import read_items, read_log
from gr2.corpus.ties import ties_of
from gr2.errors import UserError
from gr2.run import load_config
from gr2.stages.s01_corpus import build_corpus
from gr2.types import Split

CONFIGS = Path(__file__).parent.parent / "configs"
BEAUTY = new.Look(
    items=12_101,
    untitled=0,
    never_taken=0,
    users=22_363,
    tested=22_363,
    events=198_502,
    train_events=153_776,
    middle=6,
    ties=ties_of({}),
)
MOVIELENS = replace(BEAUTY, items=1_682, users=943, tested=943, events=100_000, train_events=90_570, middle=65)


@pytest.mark.parametrize(("seen", "name"), [(BEAUTY, "beauty"), (MOVIELENS, "nano")])
def test_it_takes_over_what_was_chosen_by_validation(tmp_path, seen, name):
    path = tmp_path / "shop.toml"
    path.write_text(new.config_text(seen, "shop", Path("i.csv"), Path("e.csv")))
    ours, chosen = load_config(path), load_config(CONFIGS / f"{name}.toml")
    assert {table for table, config in chosen.tables.items() if ours.tables[table] != config} == {"corpus"}
    held_out = {"n_test", "n_valid", "min_train"}
    assert ours.tables["corpus"].model_dump(include=held_out) == chosen.tables["corpus"].model_dump(include=held_out)
    assert (str(ours.tables["corpus"].items), str(ours.tables["corpus"].events)) == ("i.csv", "e.csv")


def look(**changes):
    return replace(BEAUTY, **changes)


@pytest.mark.parametrize(("items", "levels"), [(3, 2), (2_048, 2), (2_049, 3), (131_072, 3), (131_073, 4)])
def test_ids_have_room_for_twice_the_catalogue(items, levels):
    assert look(items=items).codebooks == [64] * levels


@pytest.mark.parametrize(("events", "steps"), [(10, 100), (32_000, 1_000), (153_776, 4_800), (10_000_000, 20_000)])
def test_steps_make_ten_passes_up_to_a_limit(events, steps):
    assert look(train_events=events).steps == steps


@pytest.mark.parametrize(("items", "practice"), [(50, None), (51, 50)])
def test_practice_lists_are_shorter_than_the_catalogue(tmp_path, items, practice):
    path = tmp_path / "shop.toml"
    path.write_text(new.config_text(look(items=items), "shop", Path("i.csv"), Path("e.csv")))
    assert load_config(path).tables["slates"].practice == practice


def test_minutes_grow_with_events():
    assert look(events=397_004).minutes == 170
    assert look(events=10).minutes == 85


@pytest.fixture
def files(tmp_path):
    """Three items, one of which nobody took and one without a title; five people with five events and one with two."""
    rows = [{"item_id": "a", "title": "A"}, {"item_id": "b", "title": None}, {"item_id": "c", "title": "C"}]
    items, events = tmp_path / "items.jsonl", tmp_path / "log.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = [(f"u{u}", "ab"[t % 2], t) for u in range(5) for t in range(5)] + [("u5", "a", 0), ("u5", "b", 1)]
    events.write_text("".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t}) + "\n" for u, i, t in log))
    return items, events


def run(config, files):
    return CliRunner().invoke(app, ["new", str(config), "--items", str(files[0]), "--events", str(files[1])])


def test_from_files(tmp_path, files):
    path = tmp_path / "configs" / "shop.toml"
    done = run(path, files)
    assert done.exit_code == 0, done.output
    for line in (
        "items   3; 1 without a title, 1 that nobody took",
        "people  6; 5 have events enough to be tested on",
        "events  27; the person in the middle has 5",
        f"about 85 minutes on two cores: gr2 run {path}",
    ):
        assert line in done.output
    config = load_config(path)
    assert config.name == "shop"
    items = read_items(config.tables["corpus"].items)
    corpus = build_corpus(items, read_log(config.tables["corpus"].events, items), config.tables["corpus"])
    assert sum(split is Split.TEST for t in corpus.timelines for split in t.splits) == 5


def test_a_config_that_is_there_is_kept(tmp_path, files):
    path = tmp_path / "shop.toml"
    path.write_text("mine")
    assert isinstance(run(path, files).exception, UserError)
    assert path.read_text() == "mine"


def test_what_cannot_be_read_leaves_no_config(tmp_path, files):
    with files[1].open("a") as log:
        log.write('{"user_id": "u9", "item_id": "nowhere", "timestamp": 1}\n')
    with pytest.raises(UserError, match=r"log.jsonl, line 28: item 'nowhere' is not in the items file"):
        new.start(tmp_path / "shop.toml", *files)
    assert not (tmp_path / "shop.toml").exists()


def test_a_config_ends_in_toml(tmp_path, files):
    with pytest.raises(UserError, match=r"shop: a config ends in .toml; call it .*shop.toml"):
        new.start(tmp_path / "shop", *files)


def test_a_config_is_named_as_a_folder_may_be(tmp_path, files):
    with pytest.raises(UserError, match="'my shop' names the run's folder"):
        new.start(tmp_path / "my shop.toml", *files)
    path = tmp_path / "my shop.toml"
    path.write_text(new.config_text(MOVIELENS, "x", *files))
    with pytest.raises(UserError, match=r"my shop.toml: 'my shop' names the run's folder; .* or give \[run\] name"):
        load_config(path)
