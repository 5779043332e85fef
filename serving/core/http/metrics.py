"""What Prometheus scrapes from GET /metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """One registry for each gateway. Labels are routes' patterns, never addresses, so their number is bounded."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram  # serving/service.py says when

        self.registry = here = CollectorRegistry()
        self.requests = Counter("yuheng_requests", "Requests answered", ["route", "status"], registry=here)
        self.seconds = Histogram(
            "yuheng_request_seconds",
            "From a request's arrival to its answer's last byte",
            ["route"],
            buckets=SECONDS,
            registry=here,
        )
        self.decisions = Counter("yuheng_decisions", "Decisions recorded", ["model", "decision"], registry=here)
        self.rows = Counter("yuheng_batch_rows", "Rows of batches", ["model", "outcome"], registry=here)
        self.model = Gauge(
            "yuheng_model_info",
            "1 for the bundle that serves, 0 for one that did",
            ["model", "version", "bundle"],
            registry=here,
        )
        self.refused = Gauge(
            "yuheng_bundle_refused",
            "1 while the champion's bundle is refused and an older one, or none, serves",
            ["model"],
            registry=here,
        )
        # A label's counter, once looked up: the looking up costs more than the counting.
        self._requests: Callable[..., Counter] = cache(self.requests.labels)
        self._seconds: Callable[..., Histogram] = cache(self.seconds.labels)
        self._decisions: Callable[..., Counter] = cache(self.decisions.labels)
        self.store_failing = Gauge("yuheng_store_failing", "1 while the store takes no records", registry=here)
        self.log_broken = Gauge(
            "yuheng_log_broken", "1 while the audit log does not go on where its checkpoints stood", registry=here
        )
        self.waiting = Gauge("yuheng_waiting", "Answers not yet on disk", registry=here)

    def answered(self, route: str, status: int, seconds: float) -> None:
        self._requests(route, status).inc()
        self._seconds(route).observe(seconds)

    def decided(self, model: str, decision: str) -> None:
        self._decisions(model, decision).inc()

    def text(self) -> bytes:
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
