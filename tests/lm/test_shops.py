"""Rows of made-up shops, read back token by token."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gr2.lm.alignment import Marks
from gr2.lm.pretrain import CODEBOOK_SIZES, WORDS, vocabulary
from gr2.lm.shops import Shops, by_taste
from gr2.prompt.render import CANDIDATES, END_THINK, HISTORY, THINK
from gr2.sid.spelling import tokens

NAMES = [*vocabulary(), *["word"] * WORDS]
NUMBER = {name: i for i, name in enumerate(vocabulary())}
SHOPS = Shops(
    marks=Marks.of(lambda token: NUMBER.get(token, 0)),
    codes=np.array([NUMBER[t] for t in tokens(CODEBOOK_SIZES, markers=False)]).reshape(len(CODEBOOK_SIZES), -1),
    words=len(NUMBER) + np.arange(WORDS),
)


def items(words: list[str]) -> list[tuple[str, ...]]:
    """Spelled ids between other words, each as the tuple of its codes: a first-level code begins one."""
    found: list[tuple[str, ...]] = []
    for word in words:
        if word.startswith("<s_a_"):
            found.append((word,))
        elif word.startswith("<s_"):
            found[-1] = (*found[-1], word)
    return found


def labels(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("<c_")]


def test_taste_by_hand():
    """Ages 2, 1, 0: first codes 5, 7, 7. Candidate (7, 1): .9 + 1.5; (5, 0): .81 * 1.5; (7, 9): 1.9; (3, 3): 0."""
    history = [(5, 0), (7, 2), (7, 1)]
    slate = [(3, 3), (5, 0), (7, 9), (7, 1)]
    assert by_taste(history, slate).tolist() == [3, 2, 1, 0]
    assert by_taste([], slate).tolist() == [0, 1, 2, 3]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32).map(np.random.default_rng))
def test_what_is_said_is_of_the_list_and_bound_to_its_labels(rng):
    row = SHOPS.row(rng)
    words = [NAMES[t] for t in row.tokens]
    assert words[0] == HISTORY
    opens, thinks, closes = (words.index(mark) for mark in (CANDIDATES, THINK, END_THINK))
    slate, thought = items(words[opens:thinks]), items(words[thinks:closes])
    bound = dict(zip(slate, labels(words[opens:thinks]), strict=True))
    said = labels(words[closes:])
    if said:
        assert labels(words[thinks:closes]) == [bound[item] for item in thought]
        rest = [label for label in bound.values() if label not in said[: len(thought)]]
        assert said == [*(bound[item] for item in thought), *rest]
    else:
        assert items(words[closes:]) == liked(words[1:opens], slate)[:1]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32).map(np.random.default_rng))
def test_neither_the_prompt_nor_words_nor_what_is_named_by_chance_counts(rng):
    row = SHOPS.row(rng)
    words = [NAMES[t] for t in row.tokens]
    thinks, closes = words.index(THINK), words.index(END_THINK)
    uncounted = {word for word, counts in zip(words[thinks + 1 :], row.counts[thinks + 1 :], strict=True) if not counts}
    named = {word for word in words[thinks:closes] if word.startswith("<s_a_")}
    assert not any(row.counts[: thinks + 1])
    assert uncounted - {"word", END_THINK} in (set(), named)
    assert (END_THINK in uncounted) == (not labels(words[closes:]))  # where the prompt ends in it


def test_look_ups_name_candidates_in_any_order_and_choices_the_three_best():
    kinds = {"all": 0, "three": 0, "at once": 0}
    for seed in range(300):
        words = [NAMES[t] for t in SHOPS.row(np.random.default_rng(seed)).tokens]
        opens, thinks, closes = (words.index(mark) for mark in (CANDIDATES, THINK, END_THINK))
        slate, thought = items(words[opens:thinks]), items(words[thinks:closes])
        kinds["all"] += len(thought) == len(slate)
        kinds["three"] += thought == liked(words[1:opens], slate)[:3]
        kinds["at once"] += not thought
    assert 0.36 < kinds["all"] / 300 < 0.54  # .6 x (.7 + .3 / K)
    assert 0.19 < kinds["three"] / 300 < 0.33  # .25, and a look-up of three that happens to be right
    assert 0.09 < kinds["at once"] / 300 < 0.21


def liked(past: list[str], slate: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The slate by taste."""
    return [slate[c] for c in by_taste(items(past), slate)]
