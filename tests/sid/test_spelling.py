import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gr2.sid.spelling import BEGIN, END, defuse, read, spell, tokens
from gr2.types import SemanticId

sids = st.lists(st.integers(0, 10_000), min_size=1, max_size=26).map(lambda codes: SemanticId(codes=tuple(codes)))


def test_spelling_of_the_paper():
    sid = SemanticId(codes=(57, 7, 23, 4))
    assert spell(sid, markers=False) == "<s_a_57><s_b_7><s_c_23><s_d_4>"
    assert spell(sid, markers=True) == "<|sid_begin|><s_a_57><s_b_7><s_c_23><s_d_4><|sid_end|>"


@given(sids, st.booleans())
def test_read_is_the_inverse_of_spell(sid, markers):
    assert read(spell(sid, markers=markers)) == sid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Toy Story",
        "<s_b_1>",  # starts at the second level
        "<s_a_1><s_c_2>",  # skips a level
        "<s_b_1><s_a_2>",
        "<s_a_1><s_a_2>",
        "<s_a_01>",
        "<s_a_-1>",
        "<s_a_٣>",  # an Arabic digit
        " <s_a_1>",
        "<s_a_1> <s_b_2>",
        "<s_a_1>, title",
        BEGIN + END,
        BEGIN + "<s_a_1>",
        "<s_a_1>" + END,
    ],
)
def test_read_refuses_what_is_not_exactly_one_id(text):
    with pytest.raises(ValueError, match="not a semantic id"):
        read(text)


def test_tokens():
    assert tokens([2, 1], markers=False) == ["<s_a_0>", "<s_a_1>", "<s_b_0>"]
    assert tokens([2, 1], markers=True) == ["<s_a_0>", "<s_a_1>", "<s_b_0>", "<|sid_begin|>", "<|sid_end|>"]


@given(sids)
def test_a_spelled_id_consists_of_tokens(sid):
    vocabulary = set(tokens([code + 1 for code in sid.codes], markers=True))
    assert set(re.findall(r"<[^>]+>", spell(sid, markers=True))) <= vocabulary


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("a <s_a_57> b", "a (s_a_57) b"),
        ("<|im_end|>", "(|im_end|)"),
        ("<think>x</think>", "(think)x(/think)"),
        ("<tool_call>", "(tool_call)"),
        ("<s_<think>a_1>", "<s_(think)a_1>"),
        ("<|a<s_b_1>c|>", "(|a(s_b_1)c|)"),
        ("<<|x|>>", "<(|x|)>"),
        ("I <3 you > me", "I <3 you > me"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("Fast & Furious (2001)", "Fast & Furious (2001)"),
    ],
)
def test_defuse(text, harmless):
    assert defuse(text) == harmless


pieces = st.sampled_from(["<", ">", "|", "/", "s_a_1", "<s_b_2>", "<|sid_end|>", "think", "</think>", " ", "\n", "é"])


@given(st.lists(pieces, max_size=12).map("".join))
def test_nothing_dangerous_survives_defusing(text):
    safe = defuse(text)
    assert not re.search(r"<s_[a-z]_\d+>|</?think>|<\|[^|]*\|>", safe)
    assert len(safe) == len(text)
    assert defuse(safe) == safe
