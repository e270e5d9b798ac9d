"""The tasks of bundles as the server sees them: descriptions, routes, and a probe.

A route belongs to one task, or to all. Bundles of another task refuse it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from embedrt.bundle.manifest import Task
from embedrt.serve.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The models of one task."""

    does: str
    """The function of such a model, for messages."""
    doing: str
    """The same as a noun."""
    name: str
    """The name of such a model, for messages."""
    routes: str
    """The main routes for clients of such a model."""
    probe: Callable[[Any, str], Awaitable[Any]]
    """Computes a text that is in no cache, as a health check; returns its numbers."""


async def _vectors(encoder: Any, text: str) -> Any:
    return await encoder.aencode(text, prompt="")


async def _weights(encoder: Any, text: str) -> Any:
    return (await _vectors(encoder, text)).values


KINDS: dict[Task, Kind] = {
    "embedding": Kind(
        does="gives one vector per text",
        doing="embedding",
        name="an embedding model",
        routes="/v1/embeddings, /embed or /vectors",
        probe=_vectors,
    ),
    "reranking": Kind(
        does="scores pairs of texts",
        doing="scoring",
        name="a reranker",
        routes="/rerank, /v1/rerank, /v2/rerank or /predict",
        probe=lambda reranker, text: reranker.apredict(
            (text, text), prompt="", activation_fn="Identity"
        ),
    ),
    "sparse": Kind(
        does="gives sparse vectors",
        doing="encoding",
        name="a sparse encoder",
        routes="/embed_sparse",
        probe=_weights,
    ),
    "late-interaction": Kind(
        does="gives one vector per token",
        doing="encoding",
        name="a late interaction model",
        routes="/embed_all",
        probe=_vectors,
    ),
}


def refuse_other_task(own: Task, task: Task | None, name: str) -> None:
    """Raise RequestError for a route of another `task` than the bundle's own.

    `name` is the model's name in answers.
    """
    if task in (None, own):
        return
    kind, other = KINDS[own], KINDS[task]
    raise RequestError(
        "unsupported",
        f"{name} {kind.does}; it does not serve this route. Call {kind.routes}, or start a server "
        f"with the bundle of {other.name}",
    )
