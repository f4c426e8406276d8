"""Against a real server on this machine, which does what servers do."""

import asyncio
import time
from email.utils import formatdate
from itertools import pairwise

import pytest
from chat_server import KEY, completion, cut_off, failure, stall
from fastapi.responses import PlainTextResponse
from pydantic import ValidationError

from gr2.errors import UserError
from gr2.teach.budget import Usage
from gr2.teach.endpoint import OpenAIConfig, Sample, retry_after, samples_of, usage_of
from gr2.teach.openai import IN_A_ROW, Question, ask


@pytest.fixture
def chat(running_server, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    running_server.act = lambda number, body: completion(*(f"{body['seed']}.{i}" for i in range(body.get("n", 1))))
    running_server.asked, running_server.times, running_server.headers = [], [], []
    running_server.most_under_way = 0
    return running_server


@pytest.fixture
def configured(chat, tmp_path):
    def config(**values):
        known = {"base_url": chat.url, "model": "m", "api_key_env": "TEACHER_KEY", "cache": tmp_path}
        return OpenAIConfig(**{**known, "backoff": 0.01, "n": 1, "concurrency": 1, **values})

    return config


def question(text="hello", at_most=1, enough=lambda samples: False):
    return Question(messages=[{"role": "user", "content": text}], enough=enough, at_most=at_most)


def texts(asked):
    return [[sample.text for sample in samples] for samples in asked.samples]


def test_the_request(chat, configured):
    asked = ask(configured(n=2, extra={"top_p": 0.9}, max_tokens=64), [question("hi", at_most=2)], seed=7)
    assert chat.asked == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "temperature": 0.8,
            "max_tokens": 64,
            "seed": 7,
            "n": 2,
            "stream": False,
            "top_p": 0.9,
        }
    ]
    assert chat.headers[0]["authorization"] == f"Bearer {KEY}"
    assert texts(asked) == [["7.0", "7.1"]]
    assert (asked.usage, asked.requests, asked.cached) == (Usage(tokens_in=100, tokens_out=10), 1, 0)


def test_n_samples_come_in_as_few_requests_as_may_be(chat, configured):
    asked = ask(configured(n=4), [question(at_most=6)], seed=0)
    assert [body["n"] for body in chat.asked] == [4, 2]
    assert texts(asked) == [["0.0", "0.1", "0.2", "0.3", "4.0", "4.1"]]


def test_a_server_that_ignores_n_is_asked_k_times(chat, configured):
    chat.act = lambda number, body: completion(f"{body['seed']}")
    asked = ask(configured(n=4), [question(at_most=5)], seed=10)
    assert texts(asked) == [["10", "11", "12", "13", "14"]]
    assert len(chat.asked) == 5


def test_a_server_that_refuses_n_is_asked_k_times_and_remembered(chat, configured):
    chat.act = lambda number, body: failure(400, "n > 1") if "n" in body else completion(f"{body['seed']}")
    questions = [question("a", at_most=3), question("b", at_most=3)]
    asked = ask(configured(n=3), questions, seed=0)
    assert texts(asked) == [["0", "1", "2"]] * 2
    assert len(chat.asked) == 1 + 6
    chat.asked.clear()
    assert texts(ask(configured(n=3), questions, seed=0)) == texts(asked)
    assert chat.asked == []


def test_a_server_that_gives_too_many(chat, configured):
    chat.act = lambda number, body: completion("a", "b", "c")
    assert texts(ask(configured(n=2), [question(at_most=2)], seed=0)) == [["a", "b"]]


def test_no_more_is_asked_than_is_enough(chat, configured):
    asked = ask(configured(n=2), [question(at_most=8, enough=lambda got: any(s.text == "2.1" for s in got))], seed=0)
    assert texts(asked) == [["0.0", "0.1", "2.0", "2.1"]]


@pytest.mark.parametrize(
    "trouble",
    [
        lambda: failure(429),
        lambda: failure(500),
        lambda: failure(503, retry_after="0"),
        lambda: PlainTextResponse("<html>busy</html>"),
        lambda: PlainTextResponse("[" * 100_000),
        lambda: PlainTextResponse('{"error": {"message": "overloaded"}}'),
        lambda: PlainTextResponse('{"choices": [], "usage": null}'),
        lambda: PlainTextResponse('{"choices": [{"text": "not a chat"}]}'),
        cut_off,
    ],
    ids=["429", "500", "503", "html", "deep", "error", "empty", "other", "cut off"],
)
def test_trouble_passes(chat, configured, trouble):
    chat.act = lambda number, body: trouble() if number < 2 else completion("ok")
    asked = ask(configured(), [question()], seed=0)
    assert texts(asked) == [["ok"]]
    assert len(chat.asked) == 3


def test_a_stall_passes_and_counts_as_the_most(chat, configured):
    """Nobody knows what a request without a reply cost: a token a byte and all of max_tokens, at the most."""
    chat.act = lambda number, body: stall() if number == 0 else completion("ok")
    asked = ask(configured(timeout=0.5, max_tokens=50), [question()], seed=0)
    lost = len(chat.asked) - 1  # on a busy machine more than the one may come too late
    most = Usage(tokens_in=lost * int(chat.headers[0]["content-length"]), tokens_out=lost * 50)
    assert texts(asked) == [["ok"]]
    assert lost >= 1
    assert asked.usage == Usage(tokens_in=100, tokens_out=10) + most


def test_a_refusal_is_not_billed(chat, configured):
    chat.act = lambda number, body: failure(429) if number == 0 else completion("ok")
    assert ask(configured(), [question()], seed=0).usage == Usage(tokens_in=100, tokens_out=10)


def test_retry_after_holds_all_requests_back(chat, configured):
    chat.act = lambda number, body: failure(429, retry_after="0.5") if number == 0 else completion("ok")
    asked = ask(configured(concurrency=2), [question(f"{i}") for i in range(6)], seed=0)
    first, *others = chat.times
    assert texts(asked) == [["ok"]] * 6
    assert sum(at - first < 0.5 for at in others) <= 2  # what the other worker had sent before the 429 came


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3), ("0.25", 0.25), ("-1", 0), ("", 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_retry_after(header, seconds):
    assert retry_after(header) == seconds


def test_retry_after_a_date():
    assert 30 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


def test_a_server_that_asks_for_an_hour_is_not_waited_for(chat, configured):
    chat.act = lambda number, body: failure(429, retry_after="3600") if number == 0 else completion("ok")
    asked = ask(configured(), [question("a"), question("b")], seed=0)
    assert texts(asked) == [[], ["ok"]]
    assert "asks to wait 3600 s" in asked.failures[0]


def test_back_off_doubles(chat, configured):
    """Each pause is at least half of backoff x 2^retry."""
    chat.act = lambda number, body: failure(500) if number < 4 else completion("ok")
    ask(configured(backoff=0.1), [question()], seed=0)
    pauses = [later - earlier for earlier, later in pairwise(chat.times)]
    assert all(pause >= 0.05 * 2**i for i, pause in enumerate(pauses))


def test_one_that_comes_to_nothing_does_not_stop_the_others(chat, configured):
    bad = lambda body: body["messages"][0]["content"] == "1"  # noqa: E731
    chat.act = lambda number, body: failure(400, "too long") if bad(body) else completion("ok")
    asked = ask(configured(), [question("0"), question("1"), question("2")], seed=0)
    assert texts(asked) == [["ok"], [], ["ok"]]
    assert asked.failures[0] == asked.failures[2] == ""
    assert asked.failures[1].startswith("HTTP 400: ")
    assert len(chat.asked) == 3


def test_many_in_a_row_stop_all(chat, configured):
    chat.act = lambda number, body: completion("ok") if number < 2 else failure(500, "down")
    questions = [question(f"{i}") for i in range(40)]
    with pytest.raises(UserError, match=f"{IN_A_ROW} slates in a row") as stopped:
        ask(configured(retries=1), questions, seed=0)
    assert "HTTP 500" in str(stopped.value)
    assert "2 of 40 slates are answered" in str(stopped.value)
    assert "write slates = 2 to go on" in str(stopped.value)
    assert len(chat.asked) == 2 + 2 * IN_A_ROW
    chat.act = lambda number, body: completion("ok")
    asked = ask(configured(retries=1), questions, seed=0)
    assert (asked.requests, asked.cached) == (40, 2)


def test_none_of_a_few_comes_through(chat, configured):
    chat.act = lambda number, body: failure(500, "down")
    with pytest.raises(UserError, match=r"no request came through.*HTTP 500"):
        ask(configured(retries=0), [question("a"), question("b")], seed=0)


def test_no_server(chat, configured):
    with pytest.raises(UserError, match=r"no server at http://127.0.0.1:1/v1"):
        ask(configured(base_url="http://127.0.0.1:1/v1", retries=1), [question()], seed=0)


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_a_fault_of_the_config_stops_at_once_and_tells_no_key(chat, configured, status, tmp_path):
    chat.act = lambda number, body: failure(status, f"Incorrect API key provided: {KEY}")
    with pytest.raises(UserError, match=rf"HTTP {status}.*TEACHER_KEY") as stopped:
        ask(configured(), [question(f"{i}") for i in range(5)], seed=0)
    assert len(chat.asked) == 1
    assert KEY not in str(stopped.value)


def test_the_key_is_written_nowhere(chat, configured, tmp_path, capfd):
    chat.act = lambda number, body: completion(f"your key is {KEY}")
    config = configured()
    assert texts(ask(config, [question()], seed=0)) == [["your key is ***"]]
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 1
    assert not any(KEY in text for text in (*written, str(config.model_dump()), *capfd.readouterr()))


def test_the_key_is_asked_for(chat, configured, monkeypatch):
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(UserError, match="TEACHER_KEY is not set; export it"):
        ask(configured(), [question()], seed=0)
    ask(configured(api_key_env=""), [question()], seed=0)
    assert "authorization" not in chat.headers[0]
    monkeypatch.setenv("TEACHER_KEY", "schlüssel")
    with pytest.raises(UserError, match="TEACHER_KEY holds no key"):
        ask(configured(), [question()], seed=0)


def test_a_re_run_costs_nothing(chat, configured):
    questions = [question(f"{i}", at_most=3) for i in range(5)]
    first = ask(configured(n=2, concurrency=3), questions, seed=0)
    chat.asked.clear()
    again = ask(configured(n=2, concurrency=1), questions, seed=0)
    assert chat.asked == []
    assert (again.samples, again.usage, again.cached) == (first.samples, first.usage, again.requests)
    ask(configured(n=2, temperature=0.1), questions, seed=0)
    assert len(chat.asked) == 10


def test_a_half_written_reply_is_asked_for_again(chat, configured, tmp_path):
    ask(configured(), [question("a"), question("b")], seed=0)
    entry = sorted(tmp_path.rglob("*.json"))[0]
    entry.write_bytes(entry.read_bytes()[:100])
    chat.asked.clear()
    asked = ask(configured(), [question("a"), question("b")], seed=0)
    assert (len(chat.asked), asked.cached) == (1, 1)


def test_concurrency_is_bounded_and_used(chat, configured):
    async def when_three_are_there():
        while chat.most_under_way < 3:
            await asyncio.sleep(0.01)
        return completion("ok")

    chat.act = lambda number, body: when_three_are_there()
    ask(configured(concurrency=3), [question(f"{i}") for i in range(12)], seed=0)
    assert chat.most_under_way == 3


def test_the_budget_stops_cleanly_and_says_how_to_go_on(chat, configured):
    """Each request costs 110 tokens, and is let go only when 60 + its bytes more would still fit."""
    questions = [question(f"{i:02}") for i in range(20)]
    spending = {"max_tokens": 60, "concurrency": 3}
    with pytest.raises(UserError, match="the budget is spent") as stopped:
        ask(configured(budget_tokens=1500, **spending), questions, seed=0)
    paid = len(chat.asked)
    most = int(chat.headers[0]["content-length"]) + 60
    assert 110 * paid <= 1500 < 110 * paid + most
    assert f"{110 * paid:,} tokens" in str(stopped.value)
    assert f"{paid} of 20 slates are answered" in str(stopped.value)
    assert f"write slates = {paid} to go on" in str(stopped.value)
    assert "raise budget_tokens" in str(stopped.value)
    kept = ask(configured(budget_tokens=1500, **spending), questions[:paid], seed=0)
    assert (len(chat.asked), kept.cached) == (paid, paid)
    done = ask(configured(budget_tokens=3000, **spending), questions, seed=0)
    assert (len(chat.asked), done.cached, done.usage.tokens) == (20, paid, 2200)


def test_a_budget_of_money(chat, configured):
    """100 tokens in at 10 a million and 10 out at 100 a million are 0.002 a request."""
    prices = {"price_in": 10.0, "price_out": 100.0, "max_tokens": 10}
    with pytest.raises(UserError, match=r"the budget is spent: .* tokens, 0\.0\d+ \(raise the budget\)"):
        ask(configured(budget_cost=0.02, **prices), [question(f"{i}") for i in range(20)], seed=0)
    paid = len(chat.asked)
    most = (int(chat.headers[0]["content-length"]) * 10 + 10 * 100) / 1e6
    assert 0.002 * paid <= 0.02 < 0.002 * paid + most
    asked = ask(configured(budget_cost=1.0, **prices), [question(f"{i}") for i in range(20)], seed=0)
    assert asked.cost == pytest.approx(20 * 0.002)


def test_a_server_that_counts_no_tokens_is_taken_to_cost_the_most(chat, configured):
    chat.act = lambda number, body: completion("ok", usage=None)
    asked = ask(configured(max_tokens=50), [question()], seed=0)
    assert asked.usage == Usage(tokens_in=int(chat.headers[0]["content-length"]), tokens_out=50)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        3,
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": "1", "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": True},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ],
)
def test_usage_that_is_none(usage):
    assert usage_of({"usage": usage}) is None


def test_samples():
    reply = {
        "choices": [
            {"message": {"content": "a"}, "finish_reason": "stop"},
            {"message": {"content": None}, "finish_reason": "length"},
            {"message": "b"},
            "c",
        ]
    }
    assert samples_of(reply) == (Sample(text="a", cut=False), Sample(text="", cut=True))
    assert samples_of({}) == samples_of({"choices": "a"}) == ()


@pytest.mark.parametrize("url", ["localhost:8000", "https://user:key@host/v1", "https://host/v1?key=1", "file:///v1"])
def test_a_key_in_the_address_is_refused(url):
    with pytest.raises(ValidationError, match="api_key_env"):
        OpenAIConfig(base_url=url)


def test_money_needs_prices():
    with pytest.raises(ValidationError, match="price_in"):
        OpenAIConfig(budget_cost=1.0)
