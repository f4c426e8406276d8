"""Five films: two of a series, one alone, one of a kind with both, and one of which nothing is known."""

from gr2.types import Item

ITEMS = (
    Item(item_id="a", title="Alien", categories=("Horror", "Sci-Fi"), year=1979, brand="Fox"),
    Item(item_id="b", title="Aliens", categories=("Action", "Sci-Fi"), year=1986, brand="Fox"),
    Item(item_id="c", title="Clueless", categories=("Comedy",), year=1995),
    Item(item_id="d", title="Dune", categories=("Sci-Fi",), year=1984),
    Item(item_id="e", title="Untitled"),
)
