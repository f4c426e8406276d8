"""Evidence is what the other users' training events say, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from cinema import cinema, slate, timeline

from gr2.artifacts import Corpus
from gr2.teach.evidence import FADING, FEATURES, HISTORY, SHRINK, Findings, count, find, tags_of
from gr2.teach.rows import as_rows
from gr2.types import Item, Slate, Split

NAMES = [name for name, _ in FEATURES]


def evidence_on(corpus: Corpus, *slates: Slate) -> Findings:
    evidence = count(corpus)
    return find(evidence, as_rows(slates, corpus.row, evidence.visits.user_row, HISTORY))


def values(found: Findings, name: str) -> list[float]:
    return found.features[0, :, NAMES.index(name)].tolist()


ITEMS = (
    Item(item_id="a", title="Alien", categories=("Horror", "Sci-Fi"), year=1979, brand="Fox"),
    Item(item_id="b", title="Aliens", categories=("Sci-Fi",), year=1986, brand="Fox"),
    Item(item_id="c", title="Clueless", categories=("Comedy",), year=1995),
    Item(item_id="d", title="Dune"),
)
VIEWERS = (timeline("u0", "abc"), timeline("u1", "abd"), timeline("u2", "acb"), timeline("u3", "dc"))
SLATE = slate("u0", "a", "bcd", 0, time=100)


@pytest.fixture(scope="module")
def found() -> Findings:
    return evidence_on(Corpus(items=ITEMS, timelines=VIEWERS), SLATE)


def test_after_is_a_cosine_of_the_other_users_counts(found: Findings) -> None:
    """Without u0: a was seen by 2, b by 2, c by 2, d by 2; directly after a: b once (u1), c once (u2)."""
    assert values(found, "after, 1 places") == pytest.approx([1 / np.sqrt(2 * 2), 1 / np.sqrt(2 * 2), 0])
    assert values(found, "after, 3 places") == pytest.approx([2 / 2, 1 / 2, 1 / 2])


def test_together_is_a_share_of_those_who_saw_the_history_event(found: Findings) -> None:
    """Of the 2 others who saw a, 2 saw b, 1 saw c, 1 saw d."""
    assert values(found, "together") == pytest.approx([2 / (2 + SHRINK), 1 / (2 + SHRINK), 1 / (2 + SHRINK)])


def test_older_history_counts_less() -> None:
    corpus = Corpus(items=ITEMS, timelines=VIEWERS)
    newest, older = (evidence_on(corpus, slate("new", h, "bc", 0)) for h in ("a", "ad"))
    d = 1 / np.sqrt(2 * 3)  # c comes after d once (u3), b never
    assert values(newest, "after, 10 places") == pytest.approx([3 / 3, 2 / 3])
    assert values(older, "after, 10 places") == pytest.approx([FADING * 3 / 3, FADING * 2 / 3 + d])


def test_links_name_the_history_that_speaks(found: Findings) -> None:
    """Within ten places either side of a: b twice, c once, d once, over a cosine of 2."""
    assert found.links[0, :, 0].tolist() == pytest.approx([1, 0.5, 0.5])


def test_content(found: Findings) -> None:
    rare, common = np.log(4 / 1), np.log(4 / 2)
    assert values(found, "genre") == pytest.approx([common / np.hypot(rare, common), 0, 0])
    assert values(found, "era") == pytest.approx([np.exp(-7 / 5), np.exp(-16 / 5), 0])
    assert values(found, "series of the newest") == [1, 0, 0]
    assert values(found, "brand") == [1, 0, 0]


def test_popularity_of_late_is_before_the_slate_only(found: Findings) -> None:
    """At 100 s the other users had seen b once (u1, 60 s), c twice (60 s) and d once (u3, 0 s)."""
    assert values(found, "popular") == pytest.approx([np.log(1 + 2), np.log(1 + 2), np.log(1 + 2)])
    assert values(found, "popular this week") == pytest.approx([np.log(2 / 3), np.log(3 / 3), np.log(2 / 3)])


def test_incoming_score_is_a_log_softmax(found: Findings) -> None:
    total = np.log(1 + np.exp(-1) + np.exp(-2))
    assert values(found, "incoming score") == pytest.approx([-total, -1 - total, -2 - total])


def test_a_users_own_events_change_nothing_on_that_users_slates() -> None:
    corpus, slates = cinema()
    for user in ("u0", "u17", "u59"):
        own = [s for s in slates.slates if s.user_id == user]
        without = replace(corpus, timelines=tuple(t for t in corpus.timelines if t.user_id != user))
        full, left_out = evidence_on(corpus, *own), evidence_on(without, *own)
        np.testing.assert_allclose(full.features, left_out.features, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(full.links, left_out.links, rtol=1e-4, atol=1e-6)


def test_held_out_events_change_nothing() -> None:
    corpus, slates = cinema()
    cut = tuple(
        replace(
            t, **{name: getattr(t, name)[: t.splits.count(Split.TRAIN)] for name in ("item_ids", "times", "splits")}
        )
        for t in corpus.timelines
    )
    full, trained = (evidence_on(c, *slates.slates) for c in (corpus, replace(corpus, timelines=cut)))
    np.testing.assert_array_equal(full.features, trained.features)


def test_slates_of_any_size_and_users_without_events_are_padded() -> None:
    corpus = Corpus(items=ITEMS, timelines=VIEWERS)
    found = evidence_on(corpus, SLATE, slate("nobody", "", "dc", 0))
    assert found.features.shape == (2, 3, len(FEATURES))
    np.testing.assert_array_equal(found.features[1, 2], 0)
    assert np.isfinite(found.features).all()
    np.testing.assert_allclose(found.features[0], evidence_on(corpus, SLATE).features[0], rtol=1e-6)


def test_a_category_that_all_items_carry_says_nothing() -> None:
    shop = [Item(item_id=i, title=i, categories=("Beauty", i)) for i in "ab"]
    np.testing.assert_allclose(tags_of(shop), np.array([[0, 1, 0], [0, 0, 1]]))
