"""The metrics that Prometheus scrapes from GET /metrics."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """One registry per application. Labels are path patterns and never paths, so that their number is bounded."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram  # serving/service.py says when

        self.registry = registry = CollectorRegistry()
        self.requests = Counter("yuheng_requests", "Requests answered", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "yuheng_request_seconds",
            "From a request's arrival to its answer's last byte",
            ["route"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.decisions = Counter("yuheng_decisions", "Decisions recorded", ["model", "decision"], registry=registry)
        self.batch_rows = Counter("yuheng_batch_rows", "Rows of batches", ["model", "outcome"], registry=registry)
        self.model_info = Gauge(
            "yuheng_model_info",
            "1 for the bundle that serves, 0 for one that did",
            ["model", "version", "bundle"],
            registry=registry,
        )
        self.bundle_refused = Gauge(
            "yuheng_bundle_refused",
            "1 while the champion's bundle is refused and an older one, or none, serves",
            ["model"],
            registry=registry,
        )
        # Each label's counter is cached, as looking it up costs more than counting.
        self._requests: Callable[..., Counter] = cache(self.requests.labels)
        self._request_seconds: Callable[..., Histogram] = cache(self.request_seconds.labels)
        self._decisions: Callable[..., Counter] = cache(self.decisions.labels)
        self.store_failing = Gauge("yuheng_store_failing", "1 while the store takes no records", registry=registry)
        self.log_broken = Gauge(
            "yuheng_log_broken", "1 while the audit log does not go on where its checkpoints stood", registry=registry
        )
        self.unconfined = Gauge(
            "yuheng_unconfined",
            "1 where the kernel lacks Landlock or seccomp for the processes that decode files of others",
            registry=registry,
        )
        self.pending_commits = Gauge("yuheng_waiting", "Answers not yet on disk", registry=registry)

    def record_response(self, route: str, status: int, seconds: float) -> None:
        """Count a response and its duration in seconds. Status 499 means that the client hung up."""
        self._requests(route, status).inc()
        self._request_seconds(route).observe(seconds)

    def record_decision(self, model: str, decision: str) -> None:
        """Count a recorded decision."""
        self._decisions(model, decision).inc()

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
