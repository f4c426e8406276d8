"""Stems and series against titles as MovieLens and shops write them."""

import pytest

from gr2.teach.series import series_of, stem
from gr2.types import Item


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Godfather, The", "godfather"),
        ("Godfather: Part II, The", "godfather"),
        ("The Godfather", "godfather"),
        ("Aliens", "alien"),
        ("Alien 3", "alien"),
        ("Evil Dead II", "evil dead"),
        ("Hot Shots! Part Deux", "hot shot"),
        ("Star Trek VI: The Undiscovered Country", "star trek"),
        ("Father of the Bride Part II", "father of the bride"),
        ("Seven (Se7en)", "seven"),
        ("M", "m"),
        ("", ""),
        ("???", ""),
    ],
)
def test_stem(title: str, expected: str) -> None:
    assert stem(title) == expected


def films(*titles: str, categories: tuple[str, ...] = ("Action",)) -> list[Item]:
    return [Item(item_id=str(i), title=title, categories=categories) for i, title in enumerate(titles)]


def test_sequels_share_a_series_and_strangers_do_not() -> None:
    assert series_of(films("Alien", "Fargo", "Aliens", "Alien: Resurrection", "Heat")) == [0, 1, 0, 0, 2]


def test_a_longer_title_joins_when_it_is_of_the_kind() -> None:
    batman = films("Batman", "Batman Returns")
    michael = [
        *films("Michael", categories=("Comedy",)),
        Item(item_id="x", title="Michael Collins", categories=("War",)),
    ]
    assert series_of(batman) == [0, 0]
    assert series_of(michael) == [0, 1]


def test_nameless_items_are_no_series() -> None:
    assert series_of(films("", "")) == [0, 1]
