"""Whole histories, the cache, the folder and the rivals on the made-up shop."""

from dataclasses import replace

import pytest
import shop
import torch

from gr2.compress import rivals
from gr2.compress.context import Compressor, Limits, key, whole_history, with_whole_history
from gr2.compress.policy import Catalogue, Scorer
from gr2.errors import UserError
from gr2.types import Split, Timeline


def timeline(*items: str) -> Timeline:
    return Timeline(user_id="u0", item_ids=items, times=tuple(range(len(items))), splits=(Split.TRAIN,) * len(items))


def slate(*history: str):
    return replace(shop.slates(1, Split.TEST)[0], user_id="u0", history=history)


def compressor(scorer: Scorer | None = None) -> Compressor:
    corpus = shop.corpus()
    vectors = torch.eye(len(corpus.items))
    return Compressor(
        scorer=scorer or Scorer(),
        catalogue=Catalogue(vectors=vectors, popularity=torch.arange(len(corpus.items)).float()),
        row=corpus.row,
        limits=Limits(newest=5, share=0.5, at_least=1),
        sids_digest=shop.semantic_ids().digest,
    )


def test_a_whole_history_ends_where_the_slates_does():
    assert whole_history(slate("b", "c"), timeline("a", "b", "c", "d")) == ("a", "b", "c")


def test_of_two_places_the_earlier_so_that_nothing_later_comes_in():
    assert whole_history(slate("a"), timeline("a", "b", "a")) == ("a",)


def test_a_history_that_is_not_in_the_timeline_is_an_error():
    with pytest.raises(ValueError, match="not in its user's timeline"):
        whole_history(slate("c", "b"), timeline("a", "b", "c"))


def test_the_newest_of_it():
    corpus = replace(shop.corpus(), timelines=(timeline("a", "b", "c", "d"),))
    assert [s.history for s in with_whole_history([slate("c")], corpus, 2)] == [("b", "c")]


def test_an_untrained_policy_keeps_the_newest_within_the_budget():
    assert compressor().compress(["i00", "i01", "i02", "i03", "i10", "i11"]) == ("i10", "i11")  # under half of 5
    assert compressor().compress([]) == ()


def test_a_policy_that_likes_popular_items_keeps_them():
    scorer = Scorer()
    with torch.no_grad():
        for weights in (scorer.hidden.weight, scorer.hidden.bias):
            weights.zero_()
        scorer.hidden.weight[0, 2] = 0.01
        scorer.out.weight[0, 0] = 1
    assert compressor(scorer).compress(["i53", "i00", "i52", "i01"]) == ("i53",)  # budget 1 of 4
    assert compressor(scorer).compress(["i00", "i53", "i01", "i52", "i02"]) == ("i53", "i52")


def test_equal_contexts_are_compressed_once_and_older_events_do_not_matter():
    one = compressor()
    history = ("i00", "i01", "i02", "i03", "i10")
    assert one.short(history) == one.short(("i23", *history)) == one.compress(history)
    assert list(one.cache) == [key(history)]
    assert one.shorten(slate(*history)).history == one.short(history)
    assert len(one.cache) == 1


def test_a_compressor_on_disk_is_the_same(tmp_path):
    corpus, ids, one = shop.corpus(), shop.semantic_ids(), compressor()
    one.short(("i00", "i01", "i02"))
    one.save(tmp_path)
    again = Compressor.load(tmp_path, corpus, ids)
    assert (again.limits, again.cache) == (one.limits, one.cache)
    history = [i.item_id for i in corpus.items]
    assert again.compress(history) == one.compress(history)


def test_a_compressor_of_other_ids_is_refused(tmp_path):
    replace(compressor(), sids_digest="other").save(tmp_path)
    with pytest.raises(UserError, match="trained with other semantic ids"):
        Compressor.load(tmp_path, shop.corpus(), shop.semantic_ids())


def test_rivals_by_hand():
    one = compressor()
    asked = replace(slate("i53", "i00", "i52", "i01"), candidates=("i52", "i00", "i10", "i11"))
    popularity = {item: float(row) for item, row in one.row.items()}
    assert rivals.last(asked, 2) == ("i52", "i01")
    assert rivals.most_popular(asked, 2, popularity) == ("i53", "i52")
    assert rivals.nearest(asked, 2, one.catalogue, dict(one.row)) == ("i00", "i52")
    assert rivals.at_random(asked, 3, 0) == rivals.at_random(asked, 3, 0)
    assert len({rivals.at_random(asked, 2, seed) for seed in range(20)}) > 1
