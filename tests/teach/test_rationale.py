"""Thoughts, word for word."""

import re

import numpy as np
import pytest
from cinema import slate
from films import ITEMS

from gr2.lm.nano import train_tokenizer
from gr2.lm.vocabulary import learn_words
from gr2.teach.evidence import KINDS
from gr2.teach.rationale import Rationale, explain, lexicon, vocabulary
from gr2.teach.rows import as_rows
from gr2.teach.teacher import Opinions
from gr2.types import Item

WORDS = lexicon(ITEMS)
ROW = {item.item_id: row for row, item in enumerate(ITEMS)}


def thought(
    history: str, candidates: str, order: tuple[int, ...], kinds: str, links: dict[int, float], cited: int = 30
) -> Rationale:
    """`kinds`: evidence, strongest first; `links`: age of a history event -> how it speaks for the first of `order`."""
    s = slate("u", history, candidates, 0)
    table = np.zeros((1, len(candidates), max(1, len(history))), np.float32)
    for age, strength in links.items():
        table[0, order[0], age] = strength
    opinions = Opinions(
        slates=(s,),
        rows=as_rows([s], ROW, {}, 30),
        strengths=np.zeros((1, len(candidates), len(KINDS))),
        totals=np.zeros((1, len(candidates))),
        links=table,
    )
    ranked = kinds.split()
    lifts = np.array([len(ranked) - ranked.index(k) if k in ranked else -1.0 for k in KINDS])
    return explain(WORDS, opinions, 0, order, lifts, cited)


def test_co_visits_cite_the_strongest_link() -> None:
    why = thought("abad", "cb", (1, 0), "co-visits", {3: 0.9, 1: 0.1, 2: 0.5})
    assert why.text == "likes sci-fi horror 1980s ; next action 1980s ; co-visits [h4] -> [c2]"
    assert why.evidence == "co-visits"


def test_the_next_genre_is_the_one_that_tells_the_pick_from_the_others() -> None:
    """b is Action and Sci-Fi; beside d, which is Sci-Fi too, Action tells."""
    assert " next action 1980s ;" in thought("a", "bd", (0, 1), "order", {}).text
    assert " next sci-fi 1980s ;" in thought("a", "dc", (0, 1), "order", {}).text


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ("series", "series [h2] -> [c1]"),
        ("brand", "brand [h2] -> [c1]"),
        ("era", "era [h1] -> [c1]"),
        ("popular", "popular -> [c1]"),
        ("order", "order -> [c1]"),
    ],
)
def test_each_kind_cites_what_bears_it_out(kinds: str, words: str) -> None:
    """History: d (1984) is newest, a (1979, the series of b) before it."""
    why = thought("ad", "bc", (0, 1), kinds, {})
    assert why.text.endswith(f" ; {words}")
    assert why.evidence == kinds


def test_evidence_that_nothing_bears_out_gives_way_to_the_next() -> None:
    assert thought("c", "bd", (0, 1), "co-visits series era popular", {}).evidence == "popular"
    assert thought("c", "be", (1, 0), "genre era brand order", {}).text == "likes comedy 1990s ; order -> [c2]"


def test_nothing_older_than_the_prompt_shows_is_cited() -> None:
    why = thought("abad", "cb", (1, 0), "co-visits order", {3: 0.9, 1: 0.1}, cited=3)
    assert "co-visits [h2] -> [c2]" in why.text
    assert thought("abad", "cb", (1, 0), "co-visits order", {3: 0.9}, cited=3).evidence == "order"


def test_no_history_and_one_candidate_still_make_a_thought() -> None:
    assert thought("", "c", (0,), "popular", {}).text == "next comedy 1990s ; popular -> [c1]"


def test_words_hold_no_marks_that_could_be_read_as_citations_or_ids() -> None:
    odd = lexicon([Item(item_id="x", title="x", categories=("Hair Care", "[c1]", "<|end|>", "Oils & Balms", "->", ""))])
    assert odd.genres == ("c1", "end", "hair-care", "oils-balms")


def test_the_vocabulary_is_closed() -> None:
    why = thought("abcde", "abcde", (2, 1, 0, 3, 4), "genre", {})
    spoken = {word for word in why.text.split() if not re.fullmatch(r"(\[[hc]\d+\])+", word)}
    known = {"likes", "next", ";", "->", *KINDS, *WORDS.genres, *WORDS.decades}
    assert spoken <= known


def test_each_word_of_the_teacher_is_one_token() -> None:
    """Words with hyphens too; a thought reads as it was written, and so does a title that begins like a word."""
    tokenizer = train_tokenizer([item.text for item in ITEMS], 300)
    learn_words(tokenizer, vocabulary(WORDS))
    thought = "likes sci-fi horror 1980s ; next action 1980s ; co-visits <c_2> -> <c_1></think>"
    words = ["likes", " sci-fi", " horror", " 1980s", " ;", " next", " action", " 1980s", " ;", " co-visits"]
    numbers = tokenizer(thought, add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([number]) for number in numbers] == [*words, " ", "<c_2>", " ->", " ", "<c_1>", "</think>"]
    assert tokenizer.decode(numbers) == thought
    title = "The actionable comedyless 1980s ; or -> not likes"
    assert tokenizer.decode(tokenizer(title, add_special_tokens=False)["input_ids"]) == title


def test_of_many_genres_the_commonest_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sci-fi has three items, the others one each, and of these the first by name is taken."""
    monkeypatch.setattr("gr2.teach.rationale.NAMED", 2)
    said = vocabulary(WORDS)
    assert [word for word in (" action", " comedy", " horror", " sci-fi") if word in said] == [" action", " sci-fi"]
