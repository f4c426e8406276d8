import pytest

from gr2.prompt.readable import readable, segments
from gr2.types import Item, SemanticId, Slate, Split

ITEMS = {name: Item(item_id=name, title=name.upper()) for name in "abcd"}
IDS = {name: SemanticId(codes=(n, 0)) for n, name in enumerate("abcd")}
SLATE = Slate(
    slate_id="u:1",
    user_id="u",
    split=Split.TEST,
    time=0,
    history=("a", "b"),
    candidates=("c", "d"),
    scores=(1.0, 0.0),
    gains=(0, 1),
)


@pytest.mark.parametrize(
    ("thought", "words"),
    [
        ("", ""),
        ("no id at all", "no id at all"),
        ("[h1] is the newest, [c1] comes first", "“B” is the newest, “C” comes first"),
        ("[h3] and [c9] cite nothing", "[h3] and [c9] cite nothing"),
        ("likes<s_a_0><s_b_0>so", "likes “A” so"),
        ("<s_a_0><s_b_0><s_a_1><s_b_0>", "“A”, “B”"),
        ("<|sid_begin|><s_a_2><s_b_0><|sid_end|>.", "“C”."),
        ("unknown <s_a_9><s_b_9>", "unknown <s_a_9><s_b_9>"),
        ("two\nlines  of [h2]", "two lines of “A”"),
    ],
)
def test_titles_replace_what_names_them(thought, words):
    assert readable(thought, SLATE, ITEMS, IDS) == words


def test_segments_name_the_items():
    assert segments("x [c2]", SLATE, IDS) == [("x ", None), ("[c2]", "d")]
