import json

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from gr2.artifacts import Corpus, SemanticIds
from gr2.errors import UserError
from gr2.record import write_json
from gr2.sid.project import load_projection, project
from gr2.sid.rqvae import RqVaeConfig
from gr2.stages import s01_corpus, s02_sids
from gr2.types import Item

TASTES = {"war": "Action", "love": "Romance"}
ITEMS = [
    Item(item_id=f"{taste}{i}", title=f"{taste} {i}", categories=(g,)) for taste, g in TASTES.items() for i in range(8)
]
LOG = {
    f"{taste}-fan{u}": [(f"{taste}{(u + step) % 8}", step) for step in range(6)] for taste in TASTES for u in range(8)
}
CONFIG = s01_corpus.Config(n_test=1, n_valid=1)
TEXT = np.random.default_rng(0).normal(size=(16, 384)).astype(np.float32)
SIDS = s02_sids.Config(codebook_sizes=(2, 4, 4), text_dims=8, engagement_dims=4, engagement_window=3)


def corpus():
    return s01_corpus.build_corpus(ITEMS, LOG, CONFIG)


def test_corpus_counts():
    assert s01_corpus.counts_of(corpus()) == {
        "items": 16,
        "users": 16,
        "events": 96,
        "train_events": 64,
        "valid_events": 16,
        "test_events": 16,
        "users_held_out": 16,
    }


@pytest.mark.parametrize("config", [{"reader": "generic"}, {"items": "a.csv"}, {"n_tset": 1}, {"n_test": 0}])
def test_bad_config(config):
    with pytest.raises(ValidationError):
        s01_corpus.Config(**config)


def test_ids_are_unique_and_in_corpus_order():
    ids, report, _ = s02_sids.build_ids(corpus(), TEXT, SIDS, seed=0)
    assert ids.item_ids == tuple(item.item_id for item in ITEMS)
    assert len(np.unique(ids.codes, axis=0)) == 16
    assert (report["n_items"], report["unique_share"]) == (16, 1.0)
    assert [book.shape for book in ids.codebooks] == [(2, 12), (4, 12), (4, 12)]


def test_ids_are_blind_to_the_order_of_the_catalogue():
    ids, _, _ = s02_sids.build_ids(corpus(), TEXT, SIDS, seed=0)
    order = np.random.default_rng(1).permutation(16)
    turned = Corpus(items=tuple(ITEMS[i] for i in order), timelines=corpus().timelines)
    ids_turned, _, _ = s02_sids.build_ids(turned, TEXT[order], SIDS, seed=0)
    assert ids_turned.of == ids.of


def test_engagement_weight_decides_whether_text_or_company_rules():
    by_taste = [[0] * 8 + [1] * 8, [1] * 8 + [0] * 8]
    strong = SIDS.model_copy(update={"engagement_weight": 10.0})
    ids, _, _ = s02_sids.build_ids(corpus(), TEXT, strong, seed=0)
    assert ids.codes[:, 0].tolist() in by_taste
    text_only, _, _ = s02_sids.build_ids(corpus(), TEXT, SIDS.model_copy(update={"engagement_weight": 0.0}), seed=0)
    assert text_only.codes[:, 0].tolist() not in by_taste
    assert text_only.codebooks[0].shape == (2, 8)


def test_held_out_events_do_not_touch_the_ids():
    held_out = {user: [*events[:4], ("war0", 4 + u), ("love0", 99)] for u, (user, events) in enumerate(LOG.items())}
    other = s01_corpus.build_corpus(ITEMS, held_out, CONFIG)
    ids, _, _ = s02_sids.build_ids(corpus(), TEXT, SIDS, seed=0)
    assert s02_sids.build_ids(other, TEXT, SIDS, seed=0)[0].digest == ids.digest


def test_items_with_one_text_and_no_events_get_their_own_ids():
    alike = tuple(Item(item_id=f"{i}", title="same") for i in range(32))
    text = np.repeat(TEXT[:2], 16, axis=0)
    ids, report, _ = s02_sids.build_ids(Corpus(items=alike, timelines=()), text, SIDS, seed=0)
    assert len(np.unique(ids.codes, axis=0)) == 32
    assert report["unique_share_before"] == 0


def test_catalogue_beyond_the_code_space():
    with pytest.raises(UserError, match=r"\[2, 2\] make 4 ids for 16 items"):
        s02_sids.build_ids(corpus(), TEXT, SIDS.model_copy(update={"codebook_sizes": (2, 2)}), seed=0)


def test_both_stages_on_disk(tmp_path):
    rows = [{"item_id": i.item_id, "title": i.title, "categories": list(i.categories)} for i in ITEMS]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sequences = [{"user_id": u, "items": [i for i, _ in events]} for u, events in LOG.items()]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sequences))
    generic = {"reader": "generic", "items": tmp_path / "items.jsonl", "events": tmp_path / "log.jsonl"}
    run = tmp_path / "run"
    s01_corpus.main(run, s01_corpus.Config(**generic, n_test=1, n_valid=1), seed=0)
    assert Corpus.load(run / "01_corpus") == corpus()
    s02_sids.main(run, SIDS.model_copy(update={"cache": tmp_path / "cache"}), seed=0)
    ids = SemanticIds.load(run / "02_sids")
    report = json.loads((run / "02_sids" / "report.json").read_text())
    assert report["unique_share"] == len(set(ids.item_of)) / 16 == 1
    assert (report["duplicate_texts"], report["empty_texts"]) == (0, 0)
    assert (run / "02_sids" / "report.png").stat().st_size > 1000
    assert load_file(run / "02_sids" / "vectors.safetensors")["text"].shape == (16, 384)
    counts = json.loads((run / "02_sids" / "record.json").read_text())["counts"]
    assert counts["n_items"] == 16


FAST = RqVaeConfig(steps=10, latent=4, hidden=8, batch_size=16, contrastive_weight=0.1, diversity_weight=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"codebook_sizes": (256, 256, 256, 256)},
        {"quantizer": "rqvae", "rqvae": FAST},
        {"random_levels": 1},
        {"random_levels": 2, "random_unused": True},
        {"quantizer": "rqvae", "rqvae": FAST, "random_levels": 1},
    ],
)
def test_every_way_of_making_ids_ends_unique_and_blind_to_order(changes):
    config = SIDS.model_copy(update=changes)
    ids, report, _ = s02_sids.build_ids(corpus(), TEXT, config, seed=0)
    assert report["unique_share"] == 1
    order = np.random.default_rng(1).permutation(16)
    users = np.random.default_rng(2).permutation(16)
    turned = Corpus(items=tuple(ITEMS[i] for i in order), timelines=tuple(corpus().timelines[u] for u in users))
    assert s02_sids.build_ids(turned, TEXT[order], config, seed=0)[0].of == ids.of


def test_one_item():
    alone = Corpus(items=(ITEMS[0],), timelines=())
    for quantizer in ("kmeans", "rqvae"):
        config = SIDS.model_copy(update={"quantizer": quantizer, "rqvae": FAST})
        ids, report, _ = s02_sids.build_ids(alone, TEXT[:1], config, seed=0)
        assert ids.codes.shape == (1, 3)
        assert report["unique_share"] == 1


def test_a_level_must_keep_its_meaning():
    with pytest.raises(ValidationError, match="random_levels = 2 leaves no level of 2"):
        s02_sids.Config(codebook_sizes=(4, 4), random_levels=2)
    with pytest.raises(ValidationError, match="random_levels = 4 leaves no level of 4"):
        s02_sids.Config(random_levels=4)


def test_sizes_that_are_left_out_follow_the_catalogue():
    ids, _, _ = s02_sids.build_ids(corpus(), TEXT, SIDS.model_copy(update={"codebook_sizes": None}), seed=0)
    # 2 x 16 items: 32 is above 4^2 and below 8^2
    assert ids.codebook_sizes == (8, 8, 8, 8)
    assert [len(book) for book in ids.codebooks] == [8, 8, 8, 8]


@pytest.mark.parametrize("quantizer", ["kmeans", "rqvae"])
def test_constant_embeddings_get_ids_all_the_same(quantizer):
    config = SIDS.model_copy(update={"quantizer": quantizer, "rqvae": FAST, "engagement_weight": 0.0})
    text = np.repeat(TEXT[:1], 16, axis=0)
    ids, report, _ = s02_sids.build_ids(corpus(), text, config, seed=0)
    assert (report["unique_share_before"], report["unique_share"]) == (0, 1)
    turned = Corpus(items=tuple(ITEMS[::-1]), timelines=corpus().timelines)
    assert s02_sids.build_ids(turned, text, config, seed=0)[0].of == ids.of


def test_vectors_of_ones_own_are_taken_as_they_are(tmp_path):
    corpus().save(_done(tmp_path / "01_corpus"))
    np.save(tmp_path / "v.npy", TEXT[:, :100])
    s02_sids.main(tmp_path, SIDS.model_copy(update={"embeddings": tmp_path / "v.npy"}), seed=0)
    report = json.loads((tmp_path / "02_sids" / "report.json").read_text())
    assert (report["unique_share"], report["duplicate_vectors"]) == (1, 0)
    # 100 numbers of text, uncut, beside 4 of company
    assert SemanticIds.load(tmp_path / "02_sids").codebooks[0].shape == (2, 104)
    text = load_file(tmp_path / "02_sids" / "vectors.safetensors")["text"]
    assert (text == TEXT[:, :100]).all()
    points = project(text, load_projection(tmp_path / "02_sids"))
    assert points.shape == (16, 104)


@pytest.mark.parametrize("books", [{"level_0": (2, 12)}, {"level_0": (2, 12), "level_9": (4, 12)}, "nan", "bytes"])
def test_a_spoilt_codebook_file(tmp_path, books):
    s02_sids.build_ids(corpus(), TEXT, SIDS, seed=0)[0].save(tmp_path)
    path = tmp_path / "codebooks.safetensors"
    if books == "bytes":
        path.write_bytes(path.read_bytes()[:50])
    elif books == "nan":
        save_file({name: book * np.nan for name, book in load_file(path).items()}, path)
    else:
        save_file({name: np.zeros(shape, dtype=np.float32) for name, shape in books.items()}, path)
    with pytest.raises(UserError, match=r"codebooks.safetensors: (unreadable|spoilt).* again"):
        SemanticIds.load(tmp_path)


def _done(folder):
    """A folder that counts as complete."""
    folder.mkdir()
    write_json(folder / "record.json", {"digest": "made by hand"})
    return folder
