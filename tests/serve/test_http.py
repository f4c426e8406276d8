import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Event
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from gr2.serve.http import app
from gr2.types import AnswerStatus, Item, Ranking, SemanticId

ITEMS = {f"i{n}": Item(item_id=f"i{n}", title=f"Film {n}", year=1990 + n) for n in range(8)}
IDS = SimpleNamespace(of={item_id: SemanticId(codes=(n, 0)) for n, item_id in enumerate(ITEMS)})


class Reverser:
    """A bundle-shaped object that turns every slate round and remembers what it was asked."""

    name, k, now, items, ids = "reverser", 4, 0, ITEMS, IDS

    def __init__(self, status=AnswerStatus.VALID, error=None, order=None):
        self.status, self.error, self.order, self.asked = status, error, order, []

    def rank(self, slates, *, think):
        self.asked += slates
        if self.error:
            raise self.error
        return [
            Ranking(
                slate_id=s.slate_id,
                order=self.order or tuple(reversed(range(len(s.candidates)))),
                status=self.status,
                thought="likes [h1], so <s_a_1><s_b_0>" if think else "",
            )
            for s in slates
        ]


def post(body, bundle=None, path="/v1/rerank"):
    return TestClient(app(bundle or Reverser())).post(path, json=body)


def indexes(answer):
    return [result["index"] for result in answer.json()["results"]]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_ranks_what_came_in(path):
    answer = post({"query": "x", "documents": ["i3", "i1", "i2"], "user_history": ["i5"]}, path=path)
    assert answer.status_code == 200
    assert indexes(answer) == [2, 1, 0]
    assert [r["relevance_score"] for r in answer.json()["results"]] == [1 / 1, 1 / 2, 1 / 3]
    assert answer.json()["status"]["code"] == "ok"
    assert answer.json()["model"] == "reverser"
    assert answer.json()["meta"] == {"documents": 3, "ranked": 3, "history": 1}
    assert "thought" not in answer.json()


def test_the_slate_is_what_was_asked():
    bundle = Reverser()
    post({"documents": ["i3", {"id": "i1"}, {"item_id": "i2", "text": "mine"}], "user_history": ["i5", "i6"]}, bundle)
    assert bundle.asked[0].candidates == ("i3", "i1", "i2")
    assert bundle.asked[0].history == ("i5", "i6")


@pytest.mark.parametrize(
    ("sent", "times", "time"),
    [
        ({}, (), 50),
        ({"history_times": [10, 20, 30]}, (10, 30), 50),
        ({"history_times": [10, 20, 90]}, (10, 90), 90),
        ({"history_times": [10, 20, 90], "time": 95}, (10, 90), 95),
        ({"time": 40}, (), 40),
    ],
)
def test_the_time_is_that_of_the_request_or_the_newest_that_is_known(sent, times, time):
    bundle = Reverser()
    bundle.now = 50
    post({"documents": ["i3"], "user_history": ["i5", "gone", "i6"], **sent}, bundle)
    assert bundle.asked[0].history == ("i5", "i6")
    assert bundle.asked[0].history_times == times
    assert bundle.asked[0].time == time


def test_numbers_are_ids_too():
    bundle = Reverser()
    bundle.items = {"7": Item(item_id="7", title="Seven")}
    bundle.ids = SimpleNamespace(of={})
    answer = post({"documents": [7, {"id": 7}], "user_history": [7]}, bundle)
    assert answer.json()["status"]["unknown_documents"] == []
    assert answer.json()["meta"]["history"] == 1


def test_unknown_duplicate_and_surplus_documents_follow_in_incoming_order():
    documents = ["new", "i0", "i1", "i0", "i2", "i3", "i4"]
    answer = post({"documents": documents})
    assert indexes(answer) == [*(5, 4, 2, 1), *(0, 3, 6)]
    status = answer.json()["status"]
    assert status["code"] == "partial"
    assert status["unknown_documents"] == ["new"]
    assert "1 unknown, 1 duplicate, 1 beyond the 4" in status["detail"]


def test_unknown_history_is_ignored_and_counted():
    bundle = Reverser()
    answer = post({"documents": ["i0", "i1"], "user_history": ["gone", "i2", "lost"]}, bundle)
    assert answer.json()["status"]["unknown_history"] == 2
    assert answer.json()["status"]["code"] == "partial"
    assert bundle.asked[0].history == ("i2",)


def test_no_known_document_keeps_the_order():
    bundle = Reverser()
    answer = post({"documents": ["x", "y"]}, bundle)
    assert indexes(answer) == [0, 1]
    assert answer.json()["status"]["code"] == "fallback"
    assert bundle.asked == []


@pytest.mark.parametrize(
    ("bundle", "word"),
    [
        (Reverser(status=AnswerStatus.DUPLICATE), "duplicate"),
        (Reverser(error=RuntimeError("boom")), "RuntimeError"),
        (Reverser(order=(0, 0, 1)), "no permutation"),
    ],
)
def test_a_failed_answer_is_the_incoming_order_and_says_so(bundle, word, caplog):
    caplog.set_level(logging.CRITICAL, "gr2.serve.rerank")
    answer = post({"documents": ["i0", "new", "i1", "i2"], "think": True}, bundle)
    assert answer.status_code == 200
    assert indexes(answer) == [0, 1, 2, 3]
    assert answer.json()["status"]["code"] == "fallback"
    assert word in answer.json()["status"]["detail"]
    assert answer.json()["meta"]["ranked"] == 0


def test_a_failing_ranker_is_logged(caplog):
    post({"documents": ["i0"]}, Reverser(error=RuntimeError("boom")))
    assert "boom" in caplog.text


def test_top_n_cuts_and_documents_come_back():
    documents = [{"id": "i0", "text": "my words"}, "i1", "new"]
    results = post({"documents": documents, "return_documents": True}).json()["results"]
    assert [r["document"] for r in results] == [
        {"id": "i1", "text": "Film 1 (1991)"},
        {"id": "i0", "text": "my words"},
        {"id": "new", "text": "new"},
    ]
    assert indexes(post({"documents": documents, "top_n": 2})) == [1, 0]
    assert indexes(post({"documents": documents, "top_n": 9})) == [1, 0, 2]


def test_the_thought_names_titles():
    answer = post({"documents": ["i0", "i1"], "user_history": ["i5", "i6"], "think": True})
    assert answer.json()["thought"] == "likes “Film 6”, so “Film 1”"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "documents: Field required"),
        ({"documents": []}, "documents: List should have at least 1"),
        ({"documents": ["i0"] * 1001}, "documents: List should have at most 1000"),
        ({"documents": ["i0"], "top_n": 0}, "top_n: Input should be greater than or equal to 1"),
        ({"documents": ["i0"], "user_history": "i1"}, "user_history: Input should be a valid list"),
        ({"documents": [{"text": "no id"}]}, "documents.0"),
        ({"documents": ["i0"], "user_history": ["i1"] * 10_001}, "user_history: List should have at most 10000"),
        ({"documents": ["i0", "\ud83d"]}, "documents: number 1 holds half a letter"),
        ({"documents": [{"id": "\udfff"}]}, "documents: number 0 holds half a letter"),
        ({"documents": ["i0", {"id": "i1", "text": "a \ud800"}]}, "documents: number 1 holds half a letter"),
        ({"documents": ["i0"], "user_history": ["\ud800"]}, "user_history: number 0 holds half a letter"),
        (
            {"documents": ["i0"], "user_history": ["i1", "i2"], "history_times": [3]},
            "history_times: 1 of them for 2 history items; send one an item, or none",
        ),
        ({"documents": ["i0"], "user_history": ["i1"], "history_times": [-1]}, "history_times.0: Input should be"),
        ({"documents": ["i0"], "time": 1_700_000_000_000}, "time: Input should be less than 100000000000"),
        ([], "the body is no JSON object"),
    ],
)
def test_a_bad_body_is_told_in_one_line(body, words):
    headers = {"content-type": "application/json"}
    answer = TestClient(app(Reverser())).post("/v1/rerank", content=json.dumps(body), headers=headers)
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message.startswith(words)
    assert "\n" not in message


def test_a_body_that_is_no_json():
    answer = TestClient(app(Reverser())).post("/v1/rerank", content="{", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("the body is not JSON")


def test_a_whole_emoji_is_no_half_letter():
    assert post({"documents": ["i0", "\U0001f600"]}).json()["status"]["unknown_documents"] == ["\U0001f600"]


class Slow(Reverser):
    """Thinks until it is let go."""

    def __init__(self):
        super().__init__()
        self.let_go = Event()

    def rank(self, slates, *, think):
        self.let_go.wait()
        return super().rank(slates, think=think)


def test_health_and_metrics_do_not_wait_and_waiting_is_measured():
    """More requests than there are threads wait for one that thinks; all came before it was let go."""
    bundle, many = Slow(), 60
    with TestClient(app(bundle)) as client, ThreadPoolExecutor(many + 1) as pool:
        asked = [pool.submit(client.post, "/v1/rerank", json={"documents": ["i0", "i1"]}) for _ in range(many)]
        try:
            time.sleep(2)
            for path in ("/health", "/metrics", "/v1/models"):
                assert pool.submit(client.get, path).result(timeout=10).status_code == 200
            assert not any(one.done() for one in asked)
            time.sleep(0.5)
        finally:
            bundle.let_go.set()
        waited = [one.result().json()["milliseconds"] for one in asked]
    assert min(waited) >= 500


def test_health_models_and_unknown_paths():
    client = TestClient(app(Reverser()))
    assert client.get("/health").json() == {"status": "ok", "model": "reverser", "items": 8, "k": 4}
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["reverser"]
    assert client.get("/nothing").json()["error"]["code"] == 404


names = st.one_of(st.sampled_from(sorted(ITEMS)), st.text(max_size=3))
documents = st.lists(
    st.one_of(names, st.builds(lambda n: {"id": n}, names), st.builds(lambda n: {"item_id": n, "x": 1}, names)),
    min_size=1,
    max_size=12,
)
CLIENTS = [TestClient(app(b)) for b in (Reverser(), Reverser(status=AnswerStatus.PARTIAL))]


@given(st.sampled_from(CLIENTS), documents, st.lists(names, max_size=5), st.booleans())
def test_always_a_permutation_with_strictly_falling_scores(client, documents, history, think):
    answer = client.post("/v1/rerank", json={"documents": documents, "user_history": history, "think": think})
    assert answer.status_code == 200
    assert sorted(indexes(answer)) == list(range(len(documents)))
    scores = [r["relevance_score"] for r in answer.json()["results"]]
    assert all(a > b for a, b in pairwise(scores))
