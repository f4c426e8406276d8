"""s04_slates on a small shop."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from gr2.artifacts import Corpus, Slates, practice_slates
from gr2.config import read_config, write_config
from gr2.corpus.logged import LogConfig
from gr2.errors import UserError
from gr2.record import digest_folder, read_json, write_json
from gr2.retrieve import sasrec
from gr2.retrieve.folds import user_folds
from gr2.retrieve.neighbours import Neighbours, user_rows, with_votes
from gr2.retrieve.popularity import popularity
from gr2.retrieve.sasrec import SasrecConfig
from gr2.stages import s04_slates
from gr2.stages.s04_slates import Config, Retrieved, make_slates
from gr2.types import Item, Split, Timeline

TINY = Config(
    k=5,
    folds=3,
    min_history=2,
    train_events_per_user=6,
    history_cap=4,
    sasrec=SasrecConfig(dim=8, layers=1, heads=1, max_length=6, epochs=2, batch_size=8),
)
SPLITS = (Split.TRAIN,) * 10 + (Split.VALID,) * 2 + (Split.TEST,) * 2


def shop(users: int = 9, n: int = 24) -> Corpus:
    rng = np.random.default_rng(0)
    return Corpus(
        items=tuple(Item(item_id=f"i{i}", title=f"film {i}") for i in range(n)),
        timelines=tuple(
            Timeline(
                user_id=f"u{u}",
                item_ids=tuple(f"i{i}" for i in rng.permutation(n)[: len(SPLITS)]),
                times=tuple(range(len(SPLITS))),
                splits=SPLITS,
            )
            for u in range(users)
        ),
    )


@pytest.fixture(scope="module")
def made() -> Retrieved:
    return make_slates(shop(), TINY, seed=0)


def test_a_slate_holds_the_k_best_items_outside_the_history(made: Retrieved) -> None:
    corpus = shop()
    for slate in made.slates.slates:
        timeline = corpus.by_user[slate.user_id]
        position = int(slate.slate_id.split(":")[1])
        before = timeline.item_ids[:position]
        assert slate.history == before[-4:]
        assert slate.history_times == timeline.times[:position][-4:]
        assert slate.time == timeline.times[position]
        assert slate.split is timeline.splits[position]
        assert not set(slate.candidates) & set(before)
        assert len(set(slate.candidates)) == 5
        assert slate.candidates[slate.target] == timeline.item_ids[position]
        assert sum(slate.gains) == 1
        assert list(slate.scores) == sorted(slate.scores, reverse=True)


def test_held_out_slates_are_the_top_k_of_the_model_of_all_users(made: Retrieved) -> None:
    corpus = shop()
    for slate in made.slates.split(Split.TEST):
        before = corpus.by_user[slate.user_id].item_ids[: int(slate.slate_id.split(":")[1])]
        rows = [corpus.row[i] for i in before]
        scores = sasrec.scores(made.model, [rows])[0]
        scores[rows] = -np.inf
        assert slate.candidates == tuple(f"i{i}" for i in np.argsort(-scores)[:5])


def test_events_without_a_slate_are_counted(made: Retrieved) -> None:
    # 10 training events: the first 2 are too early, and of the rest at most the 6 most recent are tried
    assert made.n_events[Split.TRAIN] == {f"u{u}": 6 for u in range(9)}
    assert made.n_events[Split.VALID] == made.n_events[Split.TEST] == {f"u{u}": 2 for u in range(9)}
    assert 0 < len(made.slates.split(Split.TEST)) < 18


@pytest.mark.parametrize("user", [0, 4, 8])
def test_training_slates_come_from_a_model_that_never_saw_the_user(made: Retrieved, user: int) -> None:
    """Another training past of a user changes nobody's model but those of the other folds and of all users."""
    corpus = shop()
    timeline = corpus.timelines[user]
    swapped = (*timeline.item_ids[:8], timeline.item_ids[9], timeline.item_ids[8], *timeline.item_ids[10:])
    timelines = list(corpus.timelines)
    timelines[user] = replace(timeline, item_ids=swapped)
    other = make_slates(replace(corpus, timelines=tuple(timelines)), TINY, seed=0)

    def early(result: Retrieved) -> list:
        slates = [s for s in result.slates.split(Split.TRAIN) if s.user_id == timeline.user_id]
        return [s for s in slates if int(s.slate_id.split(":")[1]) < 8]

    assert early(made) == early(other)
    assert made.slates.split(Split.TEST) != other.slates.split(Split.TEST)


def test_more_workers_change_nothing(made: Retrieved) -> None:
    heard = []
    parallel = make_slates(shop(), TINY, seed=0, report=lambda part: heard.append(part.fold), workers=2)
    assert parallel.slates == made.slates
    assert parallel.n_events == made.n_events
    for name, weight in made.model.state_dict().items():
        assert torch.equal(weight, parallel.model.state_dict()[name])
    assert sorted(heard) == [0, 1, 2, 3]


def test_nothing_is_practised_unless_asked_for(made: Retrieved) -> None:
    assert made.practice.slates == ()


def test_practice_slates_hold_targets_of_longer_lists_and_others_of_these() -> None:
    """Each of an event whose target a model that never saw the user has among its 10 best: the target and 4 of the
    other 9, in the model's order, twice."""
    corpus, config = shop(), TINY.model_copy(update={"practice": 10})
    made, plain = make_slates(corpus, config, seed=0), make_slates(corpus, TINY, seed=0)
    assert made.slates == plain.slates
    fold_of = user_folds([t.user_id for t in corpus.timelines], 3, seed=0)
    models = [
        s04_slates.fit(
            [t for t in corpus.timelines if fold_of[t.user_id] != f], corpus.row, config, 0, lambda loss: None
        )
        for f in range(3)
    ]
    expected, shallow = {}, set()
    for event in s04_slates.events_of(corpus.timelines, (Split.TRAIN,), config):
        user = event.timeline.user_id
        rows = [corpus.row[i] for i in event.history]
        scores = sasrec.scores(models[fold_of[user]], [rows])[0]
        scores[rows] = -np.inf
        best = [f"i{i}" for i in np.argsort(-scores, kind="stable")[:10]]
        if event.timeline.item_ids[event.position] in best:
            expected[f"{user}:{event.position}"] = best
            shallow |= {f"{user}:{event.position}"} if event.timeline.item_ids[event.position] in best[:5] else set()
    assert len(shallow) < len(expected)
    drawn = made.practice.slates
    assert [s.slate_id for s in drawn] == [s.slate_id for s in made.practice.by_id.values()]  # no id twice
    assert {s.slate_id.rpartition(":")[0] for s in drawn} == set(expected)
    assert len(drawn) == 2 * len(expected)
    for slate in drawn:
        event = slate.slate_id.rpartition(":")[0]
        position, timeline = int(event.split(":")[1]), corpus.by_user[slate.user_id]
        assert slate.split is Split.TRAIN
        assert slate.candidates == tuple(sorted(slate.candidates, key=expected[event].index))
        assert len(set(slate.candidates)) == 5
        assert slate.candidates[slate.target] == timeline.item_ids[position]
        assert sum(slate.gains) == 1
        assert list(slate.scores) == sorted(slate.scores, reverse=True)
        assert (slate.history, slate.time) == (timeline.item_ids[:position][-4:], timeline.times[position])
    first, second = drawn[::2], drawn[1::2]
    assert any(a.candidates != b.candidates for a, b in zip(first, second, strict=True))


def test_practice_slates_are_written_with_their_votes(tmp_path: Path) -> None:
    corpus, config = shop(), TINY.model_copy(update={"practice": 10})
    (tmp_path / "01_corpus").mkdir()
    corpus.save(tmp_path / "01_corpus")
    write_json(tmp_path / "01_corpus" / "record.json", {"digest": "any"})
    s04_slates.main(tmp_path, config, seed=0)
    drawn = practice_slates(tmp_path / "04_slates")
    assert all(len(s.votes) == 5 for s in drawn)
    assert any(any(s.votes) for s in drawn)
    unasked = tuple(replace(s, votes=()) for s in drawn)
    assert unasked == make_slates(corpus, config, seed=0).practice.slates
    assert read_json(tmp_path / "04_slates" / "record.json")["counts"]["slates_practice"] == len(drawn)


def test_practice_needs_a_longer_list_than_a_slate_and_a_longer_catalogue() -> None:
    with pytest.raises(ValueError, match="practice = 5 must be more than k = 5"):
        Config(k=5, practice=5)
    with pytest.raises(UserError, match="practice = 24, but there are only 24 items"):
        make_slates(shop(), TINY.model_copy(update={"practice": 24}), seed=0)


def test_folds_part_the_users_evenly() -> None:
    folds = user_folds([f"u{u}" for u in range(11)], 4, seed=1)
    assert sorted(np.bincount(list(folds.values()))) == [2, 3, 3, 3]


def test_too_few_users_or_items_is_the_users_error() -> None:
    with pytest.raises(UserError, match="folds = 3"):
        make_slates(shop(users=2), TINY, seed=0)
    with pytest.raises(UserError, match="k = 24"):
        make_slates(shop(), TINY.model_copy(update={"k": 24}), seed=0)


def test_popularity_counts_training_events_only() -> None:
    splits = (Split.TRAIN, Split.TRAIN, Split.TEST)
    corpus = Corpus(
        items=tuple(Item(item_id=i, title=i) for i in "abc"),
        timelines=(
            Timeline(user_id="u", item_ids=("a", "b", "c"), times=(0, 1, 2), splits=splits),
            Timeline(user_id="v", item_ids=("b", "a", "a"), times=(0, 1, 2), splits=splits),
        ),
    )
    assert popularity(corpus).tolist() == [2, 2, 0]


def test_main_writes_the_stage(tmp_path, made: Retrieved) -> None:
    folder = tmp_path / "01_corpus"
    folder.mkdir()
    shop().save(folder)
    write_json(folder / "record.json", {"digest": digest_folder(folder)})
    s04_slates.main(tmp_path, TINY, seed=0)
    written = tmp_path / "04_slates"
    corpus = shop()
    neighbours = Neighbours.load(written)
    asked = with_votes(made.slates.slates, neighbours, corpus.row, user_rows(corpus))
    assert Slates.load(written).slates == asked
    assert any(max(slate.votes) > 0 for slate in asked)
    assert read_json(written / "events.json")["test"] == made.n_events[Split.TEST]
    assert read_json(written / "record.json")["counts"]["events_test"] == 18
    assert sasrec.load(written / "sasrec").n_items == 24
    assert len((written / "metrics.jsonl").read_text().splitlines()) == (3 + 1) * 2


def shown_log(path, theta=(1.0, 0.5, 0.5, 0.25)) -> LogConfig:
    """Every user sees four of six items twice a day for thirty days, in random order, and wants half of them."""
    rng, rows = np.random.default_rng(0), []
    for slate in range(9 * 60):
        user, day = slate % 9, slate // 18
        for place, item in enumerate(rng.permutation(6)[:4]):
            click = (item + user) % 2 and rng.random() < theta[place]
            time = 86_400 * (day + 2)
            rows.append((f"s{slate}", f"u{user}", f"i{item}", place, int(click), time))
    names = ["slate_id", "user_id", "item_id", "position", "click", "time"]
    pl.DataFrame(rows, schema=names, orient="row").write_csv(path)
    return LogConfig(path=path, columns={"conversion": "", "score": ""})


def run_with_corpus(tmp_path):
    folder = tmp_path / "01_corpus"
    folder.mkdir()
    shop().save(folder)
    write_json(folder / "record.json", {"digest": digest_folder(folder)})
    return tmp_path


def test_logged_slates_need_no_pre_ranker(tmp_path) -> None:
    run = run_with_corpus(tmp_path)
    config = TINY.model_copy(update={"k": 4, "log": shown_log(tmp_path / "log.csv")})
    s04_slates.main(run, config, seed=0)
    slates, counts = Slates.load(run / "04_slates"), read_json(run / "04_slates" / "record.json")["counts"]
    # of thirty days the last three are for testing, the three before for validation; 18 slates a day
    for split, days in ((Split.TRAIN, 24), (Split.VALID, 3), (Split.TEST, 3)):
        assert 0 < len(slates.split(split)) <= 18 * days
        assert counts[f"slates_{split.value}"] == counts[f"events_{split.value}"] == len(slates.split(split))
    assert len(slates.slates) + counts["no_positive"] == counts["slates_in_log"] == 540
    assert not (run / "04_slates" / "sasrec").exists()
    # the user's whole timeline lies in the first 14 seconds
    assert {s.history for s in slates.slates} == {t.item_ids[-4:] for t in shop().timelines}
    theta = read_json(run / "04_slates" / "examination.json")["propensities"]
    assert theta == pytest.approx([1.0, 0.5, 0.5, 0.25], abs=0.12)


def test_propensities_are_given_or_left_open(tmp_path) -> None:
    run = run_with_corpus(tmp_path)
    log = shown_log(tmp_path / "log.csv").model_copy(update={"propensities": (1.0, 0.5, 0.4, 0.3, 0.2)})
    s04_slates.main(run, TINY.model_copy(update={"k": 4, "log": log}), seed=0)
    given = {"propensities": [1.0, 0.5, 0.4, 0.3], "source": "given"}
    assert read_json(run / "04_slates" / "examination.json") == given
    never = pl.read_csv(tmp_path / "log.csv").with_columns(position=pl.int_range(pl.len()) % 4)
    no_swaps = never.with_columns(item_id=pl.format("i{}", "position"))
    no_swaps.write_csv(tmp_path / "log.csv")
    s04_slates.main(run, TINY.model_copy(update={"k": 4, "log": log.model_copy(update={"propensities": None})}), seed=0)
    left_open = read_json(run / "04_slates" / "examination.json")
    assert left_open["propensities"] is None
    assert "too few swaps" in left_open["source"]


def test_a_config_names_a_log(tmp_path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text('[slates]\n[slates.log]\npath = "log.csv"\ngap_days = 2\n[slates.log.columns]\nclick = "taken"\n')
    read = read_config(path, {"slates": Config})
    log = read.tables["slates"].log
    assert (str(log.path), log.gap_days, log.columns.click, log.columns.slate) == ("log.csv", 2, "taken", "slate_id")
    write_config(tmp_path / "all.toml", read)
    assert read_config(tmp_path / "all.toml", {"slates": Config}) == read
    path.write_text("[slates]\nk = 5\n")
    assert read_config(path, {"slates": Config}).tables["slates"].log is None
