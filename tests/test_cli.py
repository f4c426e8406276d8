"""The commands as a person types them, on a tiny shop's run folder."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from gr2 import __version__, cli
from gr2.artifacts import Corpus, Rankings, SemanticIds, Slates, Traces
from gr2.errors import UserError
from gr2.follow import find_item
from gr2.record import stage_folder, write_json
from gr2.run import STAGES, console, folder_of
from gr2.show import overview
from gr2.types import Item, Ranking, Slate, Split, Timeline, Trace

TITLES = ("Toy Story", "Star Wars", "Star Trek", "Alien [uncut]", "Toy Story")
ITEMS = tuple(Item(item_id=f"m{i}", title=title, year=1990 + i) for i, title in enumerate(TITLES))
SPLITS = (Split.TRAIN, Split.TRAIN, Split.TEST)
CORPUS = Corpus(
    items=ITEMS,
    timelines=(
        Timeline(user_id="u1", item_ids=("m1", "m2", "m0"), times=(1, 2, 3), splits=SPLITS),
        Timeline(user_id="u2", item_ids=("m3", "m4", "m4"), times=(1, 2, 3), splits=SPLITS),
    ),
)


def slate(slate_id, split, time, target):
    return Slate(
        slate_id=slate_id,
        user_id=slate_id.partition(":")[0],
        split=split,
        time=time,
        history=("m1", "m2"),
        candidates=("m3", "m0"),
        scores=(0.5, 0.1),
        gains=(int(target == 0), int(target == 1)),
    )


SLATES = Slates(
    slates=(
        slate("u1:1", Split.TRAIN, 2, 1),
        slate("u1:2", Split.TEST, 3, 1),
        slate("u1:3", Split.TEST, 9, 0),
        slate("u2:2", Split.VALID, 3, 0),
    )
)
TRACE = Trace(
    slate_id="u1:1", thought="[h1] then [c2]", order=(1, 0), evidence="series", attempt=2, kept=True, reason="first"
)


@pytest.fixture
def run(tmp_path):
    """Stages 1, 2, 4, 5 and 12 are there, 3 is half-written, the others are missing."""
    run = tmp_path / "runs" / "shop"
    with stage_folder(run / "01_corpus", {}, {}) as work:
        CORPUS.save(work.path)
    with stage_folder(run / "02_sids", {}, {}) as work:
        codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
        books = (np.eye(2, dtype=np.float32), np.eye(3, 2, dtype=np.float32))
        ids = SemanticIds(item_ids=tuple(CORPUS.row), codes=codes, codebook_sizes=(2, 3), codebooks=books)
        ids.save(work.path)
        write_json(work.path / "report.json", {"n_items": 5, "unique_share_before": 0.6, "unique_share": 1.0})
    (run / "03_midtrain.partial").mkdir()
    with stage_folder(run / "04_slates", {}, {}) as work:
        SLATES.save(work.path)
    with stage_folder(run / "05_traces", {}, {}) as work:
        Traces(traces=(TRACE,)).save(work.path)
    with stage_folder(run / "13_evaluate", {}, {}) as work:
        (work.path / "gr2_direct").mkdir()
        rankings = (Ranking(slate_id="u1:2", order=(1, 0), thought="like <s_a_0><s_b_1>"),)
        Rankings(ranker="gr2_direct", rankings=rankings).save(work.path / "gr2_direct")
    (run / "config.toml").write_text('[run]\nname = "shop"\n')
    return run


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Type a command in the folder above runs/; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["gr2", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return typed


def test_version(call):
    assert call("--version") == (0, f"gr2 {__version__}\n", "")


def test_alone_without_runs(call):
    code, out, _ = call()
    assert code == 0
    assert all(folder_of(stage) in out for stage in STAGES)
    assert out.rstrip().endswith("no runs yet; the demo: gr2 run configs/nano.toml; your own data: gr2 new --help")


def test_alone_shows_what_a_run_holds(call, run):
    _, out, _ = call()
    line = {line.split()[0]: line for line in out.splitlines() if line[:1].isdigit()}
    assert "kB" in line["01_corpus"]
    assert "half-written" in line["03_midtrain"]
    assert line["06_sft"].rstrip().endswith("-")
    assert out.rstrip().endswith("go on from 03_midtrain: gr2 run runs/shop/config.toml --run runs/shop")


@pytest.mark.parametrize(
    ("width", "shown", "older"), [(80, 1, "older runs: b, c"), (100, 2, "older runs: c"), (116, 3, None)]
)
def test_only_runs_that_fit_stand_side_by_side(tmp_path, width, shown, older):
    """Words take 50 columns, a run 22."""
    table = overview([tmp_path / name for name in "abc"], width)
    assert [column.header for column in table.columns] == ["stage", "what it does", *"abc"[:shown]]
    assert table.caption == older


def test_every_stage_has_a_command(call):
    _, out, _ = call("--help")
    assert all(f" {folder_of(stage).partition('_')[2]} " in out for stage in STAGES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[slates]\nkk = 1", "[slates] unknown key 'kk'; did you mean 'k'?"),
        ("[sat]\nk = 1", "unknown table [sat]"),
    ],
)
def test_a_bad_config_is_one_line_and_exit_code_2(call, tmp_path, text, words):
    (tmp_path / "bad.toml").write_text(text)
    code, out, err = call("run", "bad.toml")
    assert (code, out) == (2, "")
    assert err.startswith("error: bad.toml: ")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_an_absent_config(call):
    code, _, err = call("run", "none.toml")
    assert (code, err) == (2, "error: none.toml: not there; that folder has no .toml file\n")


def test_debug_shows_the_traceback_wherever_it_stands(monkeypatch):
    for words in (["--debug", "follow", "x", "--run", "nowhere"], ["follow", "x", "--run", "nowhere", "--debug"]):
        monkeypatch.setattr(sys, "argv", ["gr2", *words])
        with pytest.raises(UserError):
            cli.main()


def test_follow_tells_every_stage(call, run):
    code, out, err = call("follow", "toy story", "--run", "runs/shop")
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    for words in (
        "item m4: Toy Story (1994)",
        "2 events: 1 train, 0 valid, 1 test",
        "<s_a_1><s_b_1>",
        "1 others share (1,): Alien [uncut]",
        "60.0% had an id of their own before",
        "100.0% after",
        "in no test slate",
        "missing in this run",
    ):
        assert words in said


def test_follow_shows_slate_trace_and_ranks(call, run):
    _, out, _ = call("follow", "m0", "--run", "runs/shop")
    said = " ".join(out.split())
    for words in (
        "2 others share (0,): Star Wars · Star Trek",
        "target of 1 train, 0 valid, 1 test slates",
        "1 0.500 Alien [uncut] 2 0.100 Toy Story ◂ target",
        "slate u1:1, try 2, kept: first",
        "thought: “Star Trek” then “Toy Story”",
        "ranking: Toy Story · Alien [uncut]",
        "test slate u1:2: came in at 2 of 2",
        "gr2 direct -> 1",
        "like “Star Wars”",
    ):
        assert words in said


def test_what_rich_would_read_as_markup_is_shown_as_it_is(call, run):
    """Ids, titles and a folder that look like a closing tag and an emoji."""
    odd = "[/u1]:cat:"
    items = tuple(replace(item, title=f"{item.title} {odd}") for item in ITEMS)
    Corpus(items=items, timelines=CORPUS.timelines).save(run / "01_corpus")
    Slates(slates=tuple(replace(s, slate_id=odd + s.slate_id) for s in SLATES.slates)).save(run / "04_slates")
    Traces(traces=(replace(TRACE, slate_id=odd + TRACE.slate_id, reason=odd),)).save(run / "05_traces")
    rankings = (Ranking(slate_id=f"{odd}u1:2", order=(1, 0), thought=odd),)
    Rankings(ranker="gr2_direct", rankings=rankings).save(run / "13_evaluate" / "gr2_direct")
    moved = run.rename(run.with_name("[bold]:cat:"))
    code, out, err = call("follow", "m0", "--run", moved)
    assert (code, err) == (0, "")
    said = " ".join(out.split())
    for words in (
        f"Toy Story {odd} through {moved}",
        f"test slate {odd}u1:2; newest",
        f"slate {odd}u1:1, try 2, kept: {odd}",
        f"test slate {odd}u1:2: came in at 2 of 2",
    ):
        assert words in said


def test_titles_are_found_when_they_are_near():
    assert find_item(CORPUS, "TOY STORY!").item_id == "m4"
    assert find_item(CORPUS, "m2").title == "Star Trek"
    assert find_item(CORPUS, "trek").title == "Star Trek"
    assert find_item(CORPUS, "star warz").title == "Star Wars"


@pytest.mark.parametrize("title", ["Casablanca", "star", ""])
def test_other_titles_are_one_line_with_the_nearest(call, run, title):
    code, _, err = call("follow", title, "--run", "runs/shop")
    assert code == 2
    assert err.startswith(f"error: no item called {title!r}; nearest: ")
    assert err.count("\n") == 1


def test_follow_and_rank_without_a_run(call):
    for words in (("follow", "x", "--run", "nowhere"), ("rank", "--user", "1", "--run", "nowhere")):
        code, _, err = call(*words)
        assert code == 2
        assert err.startswith("error: nowhere")


def test_rank_takes_the_newest_test_slate(run):
    assert cli.newest_test_slate(run, "u1").slate_id == "u1:3"
    with pytest.raises(UserError, match="user 'u2' has no test slate; try one of u1"):
        cli.newest_test_slate(run, "u2")


def test_serve_without_a_bundle(call):
    code, _, err = call("serve", "nowhere")
    assert (code, err.count("\n")) == (2, 1)


def test_a_stage_alone_needs_its_config(call):
    code, _, err = call("sids", "--run", "nowhere")
    assert code == 2
    assert "nowhere/config.toml: not there" in err


def test_the_traces_on_disk_are_lines_people_can_read(run):
    (line,) = (run / "05_traces" / "traces.jsonl").read_text().splitlines()
    assert json.loads(line)["thought"] == TRACE.thought
