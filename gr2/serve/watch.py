"""What a served re-ranker does, counted for Prometheus: a page of numbers behind GET /metrics. (ours)

Beside speed and failures it tells what the probes tell in a report: how often what comes out is what came in, and from
which places it takes what it puts first. A re-ranker that falls back, or only echoes, looks healthy otherwise.
"""

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gr2.serve.rerank import RerankRequest

if TYPE_CHECKING:
    from gr2.serve.ranker import Bundle

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets of latency."""


class Watch:
    """The numbers of one server since it was started; may be told of requests by any thread."""

    def __init__(self, bundle: "Bundle") -> None:
        self.registry = registry = CollectorRegistry()
        self.k = bundle.k
        model = Gauge("gr2_model", "1; which model is served", ["model"], registry=registry)
        model.labels(bundle.name).set(1)
        until = Gauge("gr2_knows_until", "Time of the newest event that the model knows", registry=registry)
        until.set(bundle.now)
        self.seconds = Histogram(
            "gr2_request_seconds",
            "Of requests that were answered, waiting for others included",
            ["think"],
            buckets=SECONDS,
            registry=registry,
        )
        self.answered = Counter("gr2_requests", "Answered, by status", ["status"], registry=registry)
        self.refused = Counter("gr2_refused", "Requests that were none, by HTTP code", ["code"], registry=registry)
        self.documents = Counter("gr2_documents", "Documents that came in", registry=registry)
        self.unknown = Counter(
            "gr2_unknown", "Documents and history items outside the catalogue", ["what"], registry=registry
        )
        self.echoes = Counter("gr2_echoes", "Ranked by the model, and returned as they came in", registry=registry)
        self.first = Counter(
            "gr2_first_from", "Incoming place of what the model put first", ["place"], registry=registry
        )

    def answer(self, request: RerankRequest, answer: dict[str, Any]) -> None:
        """A request, and the body that answered it."""
        status = answer["status"]
        self.seconds.labels(str(request.think).lower()).observe(answer["milliseconds"] / 1000)
        self.answered.labels(status["code"]).inc()
        self.documents.inc(len(request.documents))
        outside = set(status["unknown_documents"])
        self.unknown.labels("document").inc(sum(item in outside for item in request.item_ids()))
        self.unknown.labels("history").inc(status["unknown_history"])
        if status["code"] != "fallback":
            self.echoes.inc(status["echo"])
            place = answer["results"][0]["index"] + 1
            self.first.labels(str(place) if place <= self.k else "later").inc()

    def refuse(self, code: int) -> None:
        self.refused.labels(str(code)).inc()

    def page(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
