"""What of a thought is true, worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from films import ITEMS

from gr2.artifacts import Corpus
from gr2.prompt.render import Renderer, load_template
from gr2.reward.truth import Witness
from gr2.types import SemanticId, Slate, Split, Timeline


def viewer(user: str, films: str) -> Timeline:
    times = tuple(range(len(films)))
    return Timeline(user_id=user, item_ids=tuple(films), times=times, splits=(Split.TRAIN,) * len(films))


CORPUS = Corpus(items=ITEMS, timelines=(viewer("u", "ad"), viewer("v", "ab"), viewer("w", "ce")))
RENDERER = Renderer(
    template=load_template("nano"),
    items={item.item_id: item for item in ITEMS},
    ids={item.item_id: SemanticId(codes=(at,)) for at, item in enumerate(ITEMS)},
    markers=False,
    history=2,
)
WITNESS = Witness.of(CORPUS, RENDERER)
SLATE = Slate(
    slate_id="u:2",
    user_id="u",
    split=Split.TRAIN,
    time=9,
    history=("a", "d"),
    candidates=("b", "c", "e"),
    scores=(0.0, -1.0, -2.0),
    gains=(1, 0, 0),
)
LIKES = "likes sci-fi horror 1980s"
"""Of Dune and Alien both are sci-fi and one is horror; of the catalogue three in five and one in five."""


def truth(thought: str, slate: Slate = SLATE) -> list[float]:
    """Likes, next, reason and total; ids are spelled `[a]`."""
    for item in "abcde":
        thought = thought.replace(f"[{item}]", RENDERER.sid(item))
    found = WITNESS.check([slate], [thought])[0]
    return [found.likes, found.next, found.reason, found.total]


def test_a_true_thought_is_true() -> None:
    """Two others saw Alien, and one of them Aliens behind it."""
    assert truth(f"{LIKES} ; next action 1980s ; co-visits [a] -> <c_1>") == [1, 1, 1, 1]
    assert truth(f"{LIKES} ; next sci-fi 1980s ; series [a] -> <c_1>") == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("likes", "share"),
    [
        ("likes sci-fi", 1 / 3),
        ("likes sci-fi sci-fi sci-fi", 1 / 3),
        ("likes comedy action 1990s", 0),
        ("likes sci-fi horror 1980s comedy action 1990s", 1 / 2),
        ("sci-fi horror 1980s", 0),
    ],
)
def test_neither_silence_nor_saying_everything_is_the_whole_truth(likes: str, share: float) -> None:
    assert truth(f"{likes} ; next action 1980s ; era [d] -> <c_1>") == pytest.approx([share, 1, 1, (share + 2) / 3])


@pytest.mark.parametrize(
    ("words", "share"),
    [
        ("action 1980s", 1),
        ("action", 1 / 2),
        ("action sci-fi 1980s", 2 / 3),
        ("horror 1970s", 0),
        ("comedy 1980s", 1 / 2),
    ],
)
def test_what_comes_next_is_told_of_the_candidate(words: str, share: float) -> None:
    assert truth(f"{LIKES} ; next {words} ; era [d] -> <c_1>")[1] == share


@pytest.mark.parametrize(
    "reason",
    [
        "co-visits [d] -> <c_1>",  # nobody else saw Dune
        "co-visits [a] -> <c_2>",  # nobody saw both
        "genre [c] -> <c_2>",  # is no event of the history
        "genre [a] -> <c_2>",
        "genre [a] -> <c_1>",  # both are sci-fi, which more of the catalogue is than action
        "era [a] -> <c_1>",  # 1979
        "brand [d] -> <c_1>",
        "series [d] -> <c_1>",
        "genre [a] [d] -> <c_1>",
        "genre -> <c_1>",
        "order -> <c_1>",
        "popular -> <c_1>",
        "genre [a]-> <c_9>",
        "genre [a] ->",
        "genre [a]",
        "",
    ],
)
def test_a_reason_that_is_not_borne_out_is_worth_nothing(reason: str) -> None:
    assert truth(f"{LIKES} ; next action 1980s ; {reason}")[2] == 0


def test_a_genre_speaks_for_a_candidate_whom_it_tells_from_the_others() -> None:
    """Dune is sci-fi alone: beside a comedy that tells it, and beside Aliens there is nothing rarer."""
    thought = "genre [a] -> <c_1>"
    assert truth(thought, replace(SLATE, candidates=("d", "c", "e")))[2] == 1
    assert truth(thought, replace(SLATE, candidates=("d", "b", "e")))[2] == 1
    assert truth(thought, replace(SLATE, candidates=("b", "d", "e")))[2] == 0


def test_co_visits_speak_for_a_candidate_more_than_for_the_mean() -> None:
    thought = "co-visits [a] -> <c_1>"
    assert truth(thought)[2] == 1
    assert truth(thought, replace(SLATE, candidates=("b",), scores=(0.0,), gains=(1,)))[2] == 0


def test_an_event_that_the_prompt_does_not_show_cannot_be_cited() -> None:
    thought = f"{LIKES} ; next action 1980s ; series [a] -> <c_1>"
    older = replace(SLATE, history=("a", "d", "d"))
    assert truth(thought)[2] == 1
    assert truth(thought, older)[2] == 0


def test_steps_that_are_too_many_make_it_less_true() -> None:
    thought = f"{LIKES} ; next action 1980s ; next action 1980s ; brand [a] -> <c_1>"
    assert truth(thought) == [1, 1, 1, 3 / 4]


def test_what_cannot_be_said_need_not_be() -> None:
    """Nothing is known of Untitled, which makes a cold history and a candidate without words."""
    cold = replace(SLATE, history=("e",))
    assert truth("brand [e] -> <c_3>", cold) == [1, 1, 0, 0]
    assert truth("series [e] -> <c_3>", replace(cold, candidates=("b", "c", "e"))) == [1, 1, 1, 1]
    assert truth("likes comedy ; series [e] -> <c_3>", cold) == [0, 1, 1, 1 / 2]


def test_candidates_are_as_they_were_shown() -> None:
    turned = replace(SLATE, candidates=("e", "c", "b"), gains=(0, 0, 1))
    assert truth(f"{LIKES} ; next action 1980s ; brand [a] -> <c_3>", turned) == [1, 1, 1, 1]


def test_words_of_many_slates_are_checked_each_by_its_own() -> None:
    other = replace(SLATE, slate_id="w:1", user_id="w", history=("c",), candidates=("e", "b", "c"))
    thoughts = [f"{LIKES} ; next action 1980s ; era {RENDERER.sid('d')} -> <c_1>"] * 2
    totals = [found.total for found in WITNESS.check([SLATE, other], thoughts)]
    np.testing.assert_allclose(totals, [1, 0])


@pytest.mark.parametrize("invented", ["[h3]", "[h99]", "[h0]"])
def test_a_citation_of_what_the_prompt_does_not_show_leads_nowhere(invented: str) -> None:
    """Two events are shown. What is said of taste stays true, one step of three."""
    said = [f"{LIKES} ; next action 1980s ; co-visits {cited} -> [c1]" for cited in ("[h2]", invented)]
    good, bad = WITNESS.check_cited([SLATE, SLATE], said)
    assert (good.likes, good.next, good.reason, good.total) == (1, 1, 1, 1)
    assert (bad.likes, bad.next, bad.reason) == (1, 0, 0)
    assert bad.total == pytest.approx(1 / 3)
