"""Our own routes: probes, metrics, the page for browsers, and its data."""

from __future__ import annotations

from dataclasses import asdict
from time import monotonic

from embedrt.serve.dialects.tei import DIALECT, health
from embedrt.serve.operation import Operation
from embedrt.serve.page import PAGE, PAGE_HEADERS
from embedrt.serve.service import Service
from embedrt.serve.wire import HTML, Incoming, Reply, json_reply

EXPOSITION = b"text/plain; version=0.0.4; charset=utf-8"


async def live(_: Service, __: Incoming) -> Reply:
    """Answer ``GET /live``: the event loop runs."""
    return Reply()


async def metrics(service: Service, _: Incoming) -> Reply:
    """Answer ``GET /metrics``."""
    return Reply(service.metrics.exposition(), content_type=EXPOSITION)


async def stats(service: Service, _: Incoming) -> Reply:
    """Answer ``GET /stats``: the figures on the page."""
    return json_reply(
        {
            **asdict(service.loaded.stats()),
            "threads": service.loaded.options.threads,
            "seconds": monotonic() - service.started,
            "latency_ms": service.metrics.latency(),
        }
    )


async def card(service: Service, _: Incoming) -> Reply:
    """Answer ``GET /card``: the properties of the model."""
    manifest = service.manifest
    return json_reply(
        {
            "name": service.name,
            "task": manifest.task,
            "source": manifest.source.id,
            "license": manifest.source.license,
            "precision": manifest.precision,
            "dimension": manifest.dimension,
            "max_tokens": manifest.max_tokens,
            "pooling": manifest.pooling,
            "normalized": manifest.normalized,
            "similarity": manifest.similarity,
            "prompts": manifest.prompts,
            "labels": service.labels,
        }
    )


async def page(_: Service, __: Incoming) -> Reply:
    """Answer ``GET /``."""
    return Reply(PAGE, content_type=HTML, headers=PAGE_HEADERS)


OPERATIONS = [
    Operation(path="/live", method="GET", answer=live, dialect=DIALECT, public=True),
    Operation(path="/ready", method="GET", answer=health, dialect=DIALECT, public=True),
    Operation(path="/metrics", method="GET", answer=metrics, dialect=DIALECT),
    Operation(path="/stats", method="GET", answer=stats, dialect=DIALECT),
    Operation(path="/card", method="GET", answer=card, dialect=DIALECT),
    Operation(path="/", method="GET", answer=page, dialect=DIALECT),
]
