"""Metrics in Prometheus' format: requests as they are answered, and the engine's own counters."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from embedrt.engine.stats import Stats
from embedrt.loaded import LoadedBundle

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
RECENT = 1000  # requests whose latency the page shows

COUNTERS = {
    "texts": "Texts of all requests.",
    "tokens": "Tokens run through the graph.",
    "batches": "Batches run through the graph.",
    "cache_hits": "Texts whose result was in the cache, or needs no run.",
    "coalesced": "Texts equal to another one that was waiting, running or in the same request.",
    "run_seconds": "Seconds that batches took in the graph, summed over sessions side by side.",
}
GAUGES = {
    "waiting_texts": "Texts that wait to be tokenized or run.",
    "waiting_tokens": "Tokens of these texts.",
}


class Metrics:
    """Counts the requests of one application."""

    def __init__(self, loaded: LoadedBundle) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "embedrt_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "embedrt_request_seconds",
            "Seconds from the head of a request to its answer, of those answered with 200.",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._registry.register(EngineCollector(loaded))
        self._recent: deque[float] = deque(maxlen=RECENT)
        # Looking labels up takes longer than counting.
        self._count = cache(self._requests.labels)
        self._time = cache(self._seconds.labels)

    def note(self, route: str, status: int, seconds: float, *, embeds: bool) -> None:
        """Count a request that was answered."""
        self._count(route, status).inc()
        if status == 200:
            self._time(route).observe(seconds)
            if embeds:
                self._recent.append(seconds)

    def latency(self) -> dict[str, float | None]:
        """Return percentiles of the last requests that embedded texts, in milliseconds."""
        if not self._recent:
            return {"p50": None, "p99": None}
        p50, p99 = np.percentile(list(self._recent), [50, 99]) * 1e3
        return {"p50": float(p50), "p99": float(p99)}

    def exposition(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)


class EngineCollector(Collector):
    """Reads the engine's counters on request."""

    def __init__(self, loaded: LoadedBundle) -> None:
        self._loaded = loaded

    def collect(self) -> Iterator[Metric]:
        """Yield a metric for each field of `Stats`."""
        stats: Stats = self._loaded.stats()
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"embedrt_{name}", meaning, value=getattr(stats, name))
        for name, meaning in GAUGES.items():
            yield GaugeMetricFamily(f"embedrt_{name}", meaning, value=getattr(stats, name))
