"""Teachers say the same of a rollout wherever they are; and one that is told the target reads another prompt."""

from dataclasses import replace

import pytest
import shop
import torch
from chat_server import failure, running
from fastapi.responses import JSONResponse

from gr2.distill.opd import roll_out
from gr2.distill.teachers import in_process, itself_told, served, told
from gr2.errors import UserError
from gr2.prompt.render import ADVICE, LABELS, THINK
from gr2.teach.endpoint import ServerConfig
from gr2.types import Split

SLATES = shop.slates(3, Split.TRAIN)


@pytest.fixture(scope="module")
def checkpoint():
    return shop.checkpoint()


@pytest.fixture(scope="module")
def drawn(checkpoint):
    torch.manual_seed(0)
    return roll_out(checkpoint, SLATES, 2, 6)


@pytest.fixture
def running_server():
    """One for each test: where a request fails, those beside it may still be on their way."""
    with running() as server:
        yield server


@pytest.fixture
def server(running_server, checkpoint):
    """What vLLM answers, by the checkpoint's own weights; the choices in reverse order."""

    def act(number, body):
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            logp = checkpoint.model(torch.tensor([prompt])).logits[0].log_softmax(-1)
            tells = [{str(t): {"logprob": float(logp[at, t]), "rank": 1}} for at, t in enumerate(prompt[1:])]
            choices.insert(0, {"index": index, "text": "x", "prompt_logprobs": [None, *tells]})
        return JSONResponse({"object": "text_completion", "choices": choices})

    running_server.act, running_server.asked = act, []
    return running_server


def config(server, **values):
    return ServerConfig(**{"base_url": server.url, "model": "m", "api_key_env": "", "backoff": 0.01, **values})


def test_behind_a_server_it_says_the_same(server, checkpoint, drawn):
    here, there = in_process(checkpoint.model).say(drawn), served(config(server)).say(drawn)
    assert there.shape == here.shape
    assert torch.allclose(there, here, atol=1e-5)
    assert len(server.asked) == len(SLATES)
    assert {tuple(sorted(body)) for body in server.asked} == {
        ("max_tokens", "model", "prompt", "prompt_logprobs", "temperature")
    }
    texts = [prompt + written for prompt, written in zip(drawn.prompts, drawn.written, strict=True)]
    assert sorted(text for body in server.asked for text in body["prompt"]) == sorted(texts)


def test_it_is_asked_again_when_the_server_is_busy(server, checkpoint, drawn):
    act = server.act
    server.act = lambda number, body: failure(503) if number < 2 else act(number, body)
    assert torch.allclose(served(config(server)).say(drawn), in_process(checkpoint.model).say(drawn), atol=1e-5)
    assert len(server.asked) == len(SLATES) + 2


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"choices": [{"index": 0, "text": "x"}, {"index": 1, "text": "x"}]}, "tells no log-probabilities"),
        ({"choices": [{"index": i, "prompt_logprobs": [None]} for i in range(2)]}, "tells no log-probabilities"),
        ({"choices": []}, r"no choices in the reply.*tried 2 times"),
    ],
)
def test_a_server_that_does_not_tell_is_the_users_error(server, drawn, reply, message):
    server.act = lambda number, body: JSONResponse(reply)
    with pytest.raises(UserError, match=message):
        served(config(server, retries=1)).say(drawn)


@pytest.mark.parametrize(("status", "message"), [(404, "mend base_url, model or the key"), (400, "HTTP 400")])
def test_what_every_request_would_meet_is_not_tried_again(server, drawn, status, message):
    server.act = lambda number, body: failure(status, "no such model")
    with pytest.raises(UserError, match=message):
        served(config(server)).say(drawn)
    assert len(server.asked) <= len(SLATES)


def test_a_server_that_wants_an_hour_is_not_waited_for(server, drawn):
    server.act = lambda number, body: JSONResponse({}, 429, headers={"Retry-After": "3600"})
    with pytest.raises(UserError, match=r"HTTP 429.*asks to wait 3600 s"):
        served(config(server)).say(drawn)
    assert len(server.asked) <= len(SLATES)


def test_without_the_key_nothing_is_asked(server, drawn, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(UserError, match=r"\[opd.server\] environment variable NO_SUCH_KEY is not set"):
        served(config(server, api_key_env="NO_SUCH_KEY")).say(drawn)
    assert not server.asked


def test_told_the_advice_has_the_target_first_and_then_the_others_as_they_were(checkpoint):
    for slate in SLATES:
        others = [c for c in range(shop.K) if c != slate.target]
        backwards = replace(slate, advice=tuple(map(float, range(shop.K))))
        for told_so, behind in ((told(slate), others), (told(backwards), others[::-1])):
            prompt = checkpoint.renderer.prompt(told_so, think=True)
            assert prompt.partition(ADVICE)[2] == "".join(LABELS[c] for c in (slate.target, *behind)) + THINK


def test_told_it_reads_another_prompt_and_says_otherwise(checkpoint, drawn):
    unknowing, knowing = in_process(checkpoint.model).say(drawn), itself_told(checkpoint).say(drawn)
    assert knowing.shape == unknowing.shape
    assert not torch.allclose(knowing, unknowing, atol=1e-4)
    assert ((knowing == 0) == (unknowing == 0)).all()
