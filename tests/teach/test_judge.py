"""A language model as the compressor's judge; the model is a real server that answers by rule."""

import json
import re
from dataclasses import replace

import pytest
import shop
from chat_server import completion
from pydantic import ValidationError

from gr2.compress.judge import llm_judge
from gr2.errors import UserError
from gr2.stages.s09_compress import Config
from gr2.teach.endpoint import OpenAIConfig
from gr2.types import Split

ITEMS = {item.item_id: item for item in shop.items()}
SLATES = shop.slates(4, Split.TRAIN)


@pytest.fixture
def chat(chat):
    chat.act = last_first
    return chat


def last_first(number, body):
    """Turns the list of candidates round, and cites what it was shown of the history."""
    text = body["messages"][1]["content"]
    labels = re.findall(r"\[(c\d+)\] title", text)
    seen = len(re.findall(r"\[h\d+\] title", text))
    explanation = f"[h1] of {seen} events, so [{labels[-1]}]"
    return completion(json.dumps({"explanation": explanation, "recommendations": labels[::-1]}))


def judge(chat, folder, **changed):
    config = OpenAIConfig(base_url=chat.url, model="m", api_key_env="", cache=folder, backoff=0.01, retries=0)
    return llm_judge(ITEMS, config.model_copy(update=changed), newest=2, seed=0)


def test_it_ranks_what_it_is_shown_and_is_asked_once_for_the_same(chat, tmp_path):
    orders = judge(chat, tmp_path)([*SLATES, SLATES[0]])
    assert orders == [tuple(range(shop.K))[::-1]] * 5
    assert len(chat.asked) == 4
    assert {len(re.findall(r"\[h\d\] title", body["messages"][1]["content"])) for body in chat.asked} == {2}
    assert judge(chat, tmp_path)(SLATES) == orders[:4]
    assert len(chat.asked) == 4  # the rest came from the cache
    judge(chat, tmp_path)([replace(SLATES[0], history=SLATES[0].history[:1])])
    assert len(chat.asked) == 5


def test_without_a_whole_reply_the_incoming_order_stays(chat, tmp_path):
    chat.act = lambda number, body: completion("the first one, I think")
    assert judge(chat, tmp_path)(SLATES[:1]) == [tuple(range(shop.K))]
    assert len(chat.asked) == 2


def test_the_budget_is_that_of_all_judging(chat, tmp_path):
    ranked = judge(chat, tmp_path, budget_tokens=20_000, max_tokens=100)
    for _ in range(2):
        ranked(SLATES[:1])  # the second time from the cache, which counts as what it once cost
    ranked = judge(chat, tmp_path, budget_tokens=200, max_tokens=100)
    ranked(SLATES[:1])
    with pytest.raises(UserError, match=r"\[compress.judge\] the budget is spent"):
        ranked(SLATES[1:2])


def test_a_judge_without_a_name_is_refused():
    with pytest.raises(ValidationError, match="base_url and model"):
        Config(judge=OpenAIConfig())
