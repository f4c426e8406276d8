"""The real bundle: written, read back, asked, and served."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import shop
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.advice.advisor import fit_advisor
from gr2.advice.features import Knowledge
from gr2.advice.sample import Sample
from gr2.artifacts import Corpus
from gr2.errors import UserError
from gr2.retrieve.neighbours import remember, with_votes
from gr2.serve.http import app
from gr2.serve.ranker import Bundle
from gr2.types import AnswerStatus, Split

KNOWLEDGE = Knowledge.of(shop.corpus(), 0, codes=shop.semantic_ids().codes)
TRAIN = with_votes(shop.slates(30, Split.TRAIN), remember(shop.corpus()), shop.corpus().row, {})
BUNDLE = Bundle(
    name="shop",
    corpus=Corpus(items=shop.items(), timelines=()),
    ids=shop.semantic_ids(),
    model=replace(shop.checkpoint(seed=2), advice=1.0),
    k=shop.K,
    popular=("i00", "i11"),
    neighbours=remember(shop.corpus()),
    advisor=fit_advisor(Sample.of(TRAIN, KNOWLEDGE), KNOWLEDGE, seed=0),
)
CLIENT = TestClient(app(BUNDLE))
SLATES = shop.slates(6, Split.TEST)
NAMES = [item.item_id for item in shop.items()]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    BUNDLE.save(folder)
    return folder


@pytest.fixture
def spoilt(saved, tmp_path):
    """A copy that may be spoilt."""
    return shutil.copytree(saved, tmp_path / "bundle")


def cut(slate, size):
    """The slate with its first `size` candidates."""
    return replace(slate, candidates=slate.candidates[:size], scores=slate.scores[:size], gains=slate.gains[:size])


def test_slates_without_votes_are_shown_to_the_neighbours():
    asked = with_votes(SLATES, BUNDLE.neighbours, BUNDLE.corpus.row, {})
    assert any(max(slate.votes) > 0 for slate in asked)
    assert BUNDLE.rank(SLATES, think=False) == BUNDLE.rank(asked, think=False)
    assert BUNDLE.rank(SLATES, think=False) == BUNDLE.rank(BUNDLE.advisor.advise(asked), think=False)
    silent = [replace(slate, votes=(0.0,) * shop.K) for slate in SLATES]
    assert [s.advice for s in BUNDLE.advised(asked)] != [s.advice for s in BUNDLE.advised(silent)]


@pytest.mark.parametrize("think", [True, False])
def test_what_is_loaded_ranks_like_what_was_saved(saved, think):
    loaded = Bundle.load(saved)
    assert (loaded.name, loaded.k, loaded.popular) == ("shop", shop.K, ("i00", "i11"))
    assert loaded.items == BUNDLE.items
    assert loaded.corpus.timelines == ()
    assert loaded.rank(SLATES, think=think) == BUNDLE.rank(SLATES, think=think)


@pytest.mark.parametrize("think", [True, False])
def test_slates_of_different_sizes_keep_their_places(think):
    mixed = [cut(slate, 1 + i % shop.K) for i, slate in enumerate(SLATES)]
    rankings = BUNDLE.rank(mixed, think=think)
    assert [r.slate_id for r in rankings] == [s.slate_id for s in mixed]
    assert [sorted(r.order) for r in rankings] == [list(range(1 + i % shop.K)) for i in range(len(mixed))]
    assert {r.status for r in rankings} == {AnswerStatus.VALID}
    assert [r.order for r in rankings] == [BUNDLE.rank([slate], think=think)[0].order for slate in mixed]


def test_warming_up_makes_what_is_made_on_first_use(saved):
    loaded = Bundle.load(saved)
    assert "has" not in vars(loaded.neighbours)
    loaded.warm_up()
    assert "has" in vars(loaded.neighbours)
    replace(loaded, popular=()).warm_up()  # a shop without events has nothing popular


def test_no_slates_no_rankings():
    assert BUNDLE.rank([], think=True) == []


def test_a_thought_is_written_where_one_is_asked_for_and_changes_rankings():
    orders = [[r.order for r in BUNDLE.rank(SLATES, think=think)] for think in (True, False)]
    assert orders[0] != orders[1]
    assert all(r.thought for r in BUNDLE.rank(SLATES, think=True))
    assert not any(r.thought for r in BUNDLE.rank(SLATES, think=False))


def test_swapped_ids_are_refused(spoilt):
    replace(BUNDLE.ids, codes=np.roll(BUNDLE.ids.codes, 1, axis=0)).save(spoilt / "sids")
    with pytest.raises(UserError, match="model: trained with other semantic ids"):
        Bundle.load(spoilt)


def test_ids_of_other_codes_than_they_say_are_refused(spoilt, tmp_path):
    (tmp_path / "other").mkdir()
    replace(BUNDLE.ids, codes=np.roll(BUNDLE.ids.codes, 1, axis=0)).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "ids.parquet", spoilt / "sids")
    with pytest.raises(UserError, match=r"ids\.parquet is not the one sids\.json was written with"):
        Bundle.load(spoilt)


def test_another_catalogue_is_refused(spoilt):
    Corpus(items=shop.items()[1:], timelines=()).save(spoilt / "corpus")
    with pytest.raises(UserError, match="another catalogue's"):
        Bundle.load(spoilt)


@pytest.mark.parametrize("part", ["corpus/items.parquet", "sids/sids.json", "model/gr2.json", "bundle.json"])
def test_a_missing_part_is_named(spoilt, part):
    (spoilt / part).unlink()
    with pytest.raises(UserError, match=part):
        Bundle.load(spoilt)


def test_a_file_cut_short_anywhere_is_one_line(spoilt):
    for path in sorted(p for p in spoilt.rglob("*") if p.is_file() and p.name != "generation_config.json"):
        data = path.read_bytes()
        for size in (len(data) // 2, len(data) - 2):
            path.write_bytes(data[:size])
            with pytest.raises(UserError, match=str(path.parent)) as error:
                Bundle.load(spoilt)
            assert "\n" not in str(error.value)
        path.write_bytes(data)
    Bundle.load(spoilt)


def rerank(documents, history, think):
    answer = CLIENT.post("/v1/rerank", json={"documents": documents, "user_history": history, "think": think})
    assert answer.status_code == 200
    return answer.json()


@pytest.mark.parametrize("think", [True, False])
def test_a_request_is_ranked_as_the_bundle_ranks(think):
    slate = replace(SLATES[0], time=BUNDLE.now)
    answer = rerank(slate.candidates, slate.history, think)
    (ranking,) = BUNDLE.rank([slate], think=think)
    assert [result["index"] for result in answer["results"]] == list(ranking.order)
    assert answer["status"]["code"] == "ok"
    assert ("thought" in answer) == think


requests = st.tuples(
    st.lists(st.sampled_from([*NAMES, "gone"]), min_size=1, max_size=2 * shop.K),
    st.lists(st.sampled_from([*NAMES, "lost"]), max_size=8),
)


@settings(deadline=None, max_examples=25)
@given(requests)
def test_always_a_permutation_at_once(request_):
    check_permutation(*request_, think=False)


@pytest.mark.parametrize(
    ("documents", "history"),
    [(["i00"], []), (["i00", "gone", "i00", "i11", "i22"], ["lost", "i01"]), (NAMES, NAMES), (["gone"], [])],
)
def test_always_a_permutation_after_thinking(documents, history):
    check_permutation(documents, history, think=True)


def check_permutation(documents, history, think):
    answer = rerank(documents, history, think)
    assert sorted(result["index"] for result in answer["results"]) == list(range(len(documents)))
    known = set(documents) & set(NAMES)
    assert answer["meta"]["ranked"] == min(len(known), shop.K)
    assert (answer["status"]["code"] == "fallback") == (not known)
