"""Counters for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counters of one application. It has its own registry, so that a process may have several applications.

    Args:
        count_waiting: How many passages wait.
    """

    def __init__(self, count_waiting: Callable[[], float]) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter("gliclass_requests", "Requests answered.", ["route", "status"], registry=registry)
        self._seconds = Histogram("gliclass_request_seconds", "Seconds until the answer.", ["route"], registry=registry)
        self._passages = Counter("gliclass_passages", "Passages scored.", registry=registry)
        waiting = Gauge("gliclass_waiting_passages", "Passages that wait.", registry=registry)
        waiting.set_function(count_waiting)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count_passages(self, count: int) -> None:
        """Count scored passages."""
        self._passages.inc(count)

    def write(self) -> bytes:
        """All counters in Prometheus's text format."""
        return generate_latest(self._registry)
