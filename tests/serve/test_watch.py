"""What is counted of a server that turns every slate round, by hand."""

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from test_http import Reverser

from gr2.serve.http import app


def counted(client):
    """(name, label value or None) -> number."""
    page = client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    samples = [s for family in text_string_to_metric_families(page.text) for s in family.samples]
    return {(s.name, next(iter(s.labels.values()), None)): s.value for s in samples if "le" not in s.labels}


@pytest.fixture
def client():
    return TestClient(app(Reverser()))


def test_before_the_first_request(client):
    numbers = counted(client)
    assert numbers["gr2_model", "reverser"] == 1
    assert numbers["gr2_knows_until", None] == 0
    assert numbers["gr2_documents_total", None] == numbers["gr2_echoes_total", None] == 0


def test_answers_are_counted_by_status_and_place(client):
    ask = lambda **body: client.post("/v1/rerank", json=body)  # noqa: E731
    ask(documents=["i3", "i1", "i2"])  # the third comes first
    ask(documents=["i1", "nobody", "i2"], user_history=["gone", "i3"], think=True)  # 2, 0, and then the unknown
    ask(documents=["i1"])  # can only be an echo
    ask(documents=["x", "y"])  # nothing to rank
    numbers = counted(client)
    statuses = {status: numbers["gr2_requests_total", status] for status in ("ok", "partial", "fallback")}
    assert statuses == {"ok": 2, "partial": 1, "fallback": 1}
    assert (numbers["gr2_first_from_total", "3"], numbers["gr2_first_from_total", "1"]) == (2, 1)
    assert numbers["gr2_echoes_total", None] == 1
    assert numbers["gr2_documents_total", None] == 3 + 3 + 1 + 2
    assert (numbers["gr2_unknown_total", "document"], numbers["gr2_unknown_total", "history"]) == (3, 1)
    assert (numbers["gr2_request_seconds_count", "false"], numbers["gr2_request_seconds_count", "true"]) == (3, 1)


def test_a_document_beyond_the_slate_is_counted_as_later(client):
    """Four unknown documents stand before the one that is ranked."""
    client.post("/v1/rerank", json={"documents": ["a", "b", "c", "d", "i1"]})
    assert counted(client)["gr2_first_from_total", "later"] == 1


@pytest.mark.parametrize(("order", "echo"), [((0, 2, 1), False), ((0, 1, 2), True)])
def test_an_echo_is_told_by_the_whole_order(order, echo):
    """However few results were asked for, and whatever unknown stands between."""
    client = TestClient(app(Reverser(order=order)))
    for documents in (["i1", "i2", "i3"], ["i1", "x", "i2", "i3"]):
        answer = client.post("/v1/rerank", json={"documents": documents, "top_n": 1})
        assert answer.json()["status"]["echo"] is echo
    assert counted(client)["gr2_echoes_total", None] == 2 * echo


def test_refusals_are_counted_by_code(client):
    client.post("/v1/rerank", json={"documents": []})
    client.post("/v1/rerank", content="{", headers={"content-type": "application/json"})
    client.get("/nowhere")
    numbers = counted(client)
    assert [numbers["gr2_refused_total", code] for code in ("400", "404", "422")] == [1, 1, 1]
    assert ("gr2_requests_total", "ok") not in numbers
