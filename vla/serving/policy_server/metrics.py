"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from vla.serving.watching.watcher import Verdict

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """
    Counters of one server, in a registry of their own.

    Args:
        waiting: observations in the queue.
    """

    def __init__(self, waiting: Callable[[], int]) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "vla_requests", "Observations, by how they came and what became of them.", ("protocol", "outcome"),
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "vla_request_seconds", "From a message to its answer.", ("protocol",), buckets=SECONDS, registry=registry
        )
        self.inference = Histogram("vla_inference_seconds", "Of a batch.", buckets=SECONDS, registry=registry)
        self.batches = Histogram("vla_batch_size", "Observations of a batch.", buckets=BATCHES, registry=registry)
        self.actions = Counter("vla_actions", "Actions that were sent.", registry=registry)
        self.sockets = Gauge("vla_websockets", "Open WebSockets.", registry=registry)
        self.anomaly = Gauge("vla_anomaly_score", "Of the newest observation, if somebody watches.", registry=registry)
        self.alarms = Counter("vla_alarms", "Observations above the watcher's threshold.", registry=registry)
        queue = Gauge("vla_queue", "Observations that wait.", registry=registry)
        queue.set_function(waiting)

    def on_verdict(self, verdict: Verdict) -> None:
        """Count what a watcher said."""
        self.anomaly.set(verdict.score)
        self.alarms.inc(bool(verdict.alarm))

    def on_batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self.batches.observe(size)
        self.inference.observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """All of it in Prometheus's text format, and the media type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
