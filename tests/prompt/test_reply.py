import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr2.prompt.render import CONTROL_TOKENS, Renderer, load_template
from gr2.prompt.reply import ReplyStatus, citable, read_reply
from gr2.types import Item, SemanticId, Slate, Split

GOOD = '{"explanation": "from [h1] to [c2]", "recommendations": ["c2", "c3", "c1"]}'
NAMES = '"recommendations": ["c2", "c3", "c1"]'


def ranked(*labels):
    return json.dumps({"explanation": "see [h1]", "recommendations": labels})


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n  {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```\n",
        f"<think>maybe {{c1}}, maybe not</think>\n{GOOD}",
        f"they like [h1] ...\n</think>\n\n```json\n{GOOD}\n```",
        GOOD.replace('"c2"', '"[c2]"'),
        GOOD.replace(": ", ":\n\t"),
    ],
)
def test_whole_replies(text):
    reply = read_reply(text, cut=False, k=3, history=2)
    assert (reply.status, reply.order, reply.reasons) == (ReplyStatus.VALID, (1, 2, 0), "from [h1] to [c2]")


@pytest.mark.parametrize(
    ("text", "status", "order"),
    [
        ("", "empty", ()),
        (" \n", "empty", ()),
        ("<think>only thoughts</think>", "empty", ()),
        ("c2, c3, c1", "not_json", ()),
        (f"Sure! {GOOD}", "not_json", ()),
        ("<think>never ended " + GOOD, "not_json", ()),
        (GOOD[:-1], "not_json", ()),
        (GOOD[:30], "not_json", ()),
        (GOOD.replace('"', "'"), "not_json", ()),
        (GOOD.replace('"c1"]', '"c1",]'), "not_json", ()),
        ('{"explanation": "two\nlines [h1]", ' + NAMES + "}", "not_json", ()),
        ('{"a": ' * 100_000, "not_json", ()),
        ('{"a": ' + "9" * 5000 + "}", "not_json", ()),
        (f"[{GOOD}]", "not_json", ()),
        (f"```json\n{GOOD}\n``` That is all.", "not_json", ()),
        (f"{GOOD} That is all.", "trailing", ()),
        (GOOD + GOOD, "trailing", ()),
        (f"{GOOD}</think>", "trailing", ()),
        ("{}", "wrong_shape", ()),
        ('{"explanation": "[h1]"}', "wrong_shape", ()),
        ('{"explanation": "[h1]", ' + NAMES + ', "confidence": 1}', "wrong_shape", ()),
        ('{"explanation": "[h1]", "explanation": "[h2]", ' + NAMES + "}", "wrong_shape", ()),
        ('{"explanation": ["[h1]"], ' + NAMES + "}", "wrong_shape", ()),
        ('{"explanation": null, ' + NAMES + "}", "wrong_shape", ()),
        ('{"explanation": "[h1]", "recommendations": "c2 c3 c1"}', "wrong_shape", ()),
        ('{"explanation": "[h1]", "recommendations": {"c2": 1}}', "wrong_shape", ()),
        ('{"explanation": "[h1]", "recommendations": [2, 3, 1]}', "wrong_shape", ()),
        (ranked("c2", "c4", "c1"), "unknown_item", (1,)),
        (ranked("c2", "h1", "c1"), "unknown_item", (1,)),
        (ranked("c0", "c2", "c1"), "unknown_item", ()),
        (ranked("c02", "c1", "c3"), "unknown_item", ()),
        (ranked("C2", "c1", "c3"), "unknown_item", ()),
        (ranked("c2 ", "c1", "c3"), "unknown_item", ()),
        (ranked("[c2", "c1", "c3"), "unknown_item", ()),
        (ranked("c\u0662", "c1", "c3"), "unknown_item", ()),
        (ranked("c" + "9" * 5000), "unknown_item", ()),
        (ranked("Alien"), "unknown_item", ()),
        (ranked("c2", "c3", "c2"), "duplicate", (1, 2)),
        (ranked("c2", "c3", "c1", "c1"), "duplicate", (1, 2, 0)),
        (ranked("c2", "c3"), "partial", (1, 2)),
        (ranked(), "partial", ()),
        (GOOD.replace("[h1] to [c2]", "it to that"), "uncited", (1, 2, 0)),
        (GOOD.replace("[h1] to [c2]", "[h3] to [c4]"), "uncited", (1, 2, 0)),
        (GOOD.replace("from [h1] to [c2]", ""), "uncited", (1, 2, 0)),
    ],
)
def test_others_say_what_is_wrong(text, status, order):
    reply = read_reply(text, cut=False, k=3, history=2)
    assert (reply.status, reply.order) == (status, order)


@pytest.mark.parametrize(("text", "status"), [(GOOD[:30], "cut"), ("", "cut"), ("<think>so", "cut"), (GOOD, "valid")])
def test_cut(text, status):
    assert read_reply(text, cut=True, k=3, history=2).status == status


@given(st.text() | st.text(alphabet='{}[]":, \n`hc123explanation<>/'))
def test_any_text_has_a_status(text):
    reply = read_reply(text, cut=False, k=3, history=2)
    assert reply.status is not ReplyStatus.VALID or sorted(reply.order) == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "learned"),
    [
        ("[h1] and [c3]", "[h1] and [c3]"),
        ("[H1, c2] [h2 and C3]", "[h1] [c2] [h2] [c3]"),
        ("[h1][c1]", "[h1][c1]"),
        ("[ h1 ; c1 & c2 ]", "[h1] [c1] [c2]"),
        ("[h3], [c4], [c0]", "(h3), (c4), (c0)"),
        ("[h1, h9]", "[h1] (h9)"),
        ("[c01]", "[c1]"),
        ("[c\u0662]", "[c2]"),
        ("[[c9]] [[c2]]", "[(c9)] [[c2]]"),
        ("[c" + "9" * 5000 + "]", "(c" + "9" * 5000 + ")"),
        ("h1, (h1), candidate 2, [Alien], [h1-h2], [x1]", "h1, (h1), candidate 2, [Alien], [h1-h2], [x1]"),
        ("one\n two\u2028three\t", "one two three"),
        ("<think> <|end|> <s_a_1> <c_1> </think>", "(think) (|end|) (s_a_1) (c_1) (/think)"),
        ("half \ud800 a pair", "half ? a pair"),
        ("I <3 you", "I <3 you"),
    ],
)
def test_citable(text, learned):
    assert citable(text, k=3, history=2) == learned


SLATE = Slate(
    slate_id="u:2",
    user_id="u",
    split=Split.TRAIN,
    time=0,
    history=("a", "b"),
    candidates=("c", "d", "e"),
    scores=(3.0, 2.0, 1.0),
    gains=(0, 1, 0),
)
RENDERER = Renderer(
    template=load_template("nano"),
    items={i: Item(item_id=i, title=i) for i in "abcde"},
    ids={i: SemanticId(codes=(n,)) for n, i in enumerate("abcde")},
    markers=False,
    history=2,
)


@given(st.text(alphabet="[]hcHC019\u0662, ;&<>|s_a_/think") | st.text())
def test_whatever_a_teacher_writes_can_be_learned(text):
    """Every citation is of something shown, and ids and control tokens come from citations alone."""
    learned = citable(text, k=3, history=2)
    spelled = RENDERER.thought(SLATE, learned)
    without = re.sub(r"\[[hc]\d+\]", " ", learned)
    assert "\n" not in learned
    assert not any(token in without for token in (*CONTROL_TOKENS, "<s_a_1>"))
    assert len(re.findall(r"<s_a_\d>", spelled)) == len(re.findall(r"\[[hc]\d+\]", learned))
