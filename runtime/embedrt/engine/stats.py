"""Counters of an engine, and the size of its queue."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counters since the engine was loaded, and the current size of its queue."""

    texts: int
    """Texts passed by callers."""
    tokens: int
    """Tokens run through the graph."""
    batches: int
    """Batches run through the graph."""
    cache_hits: int
    """Texts whose result was in the cache, or needs no run."""
    coalesced: int
    """Texts equal to another text that was waiting, running or in the same call."""
    waiting_texts: int
    """Texts that wait to be tokenized or run."""
    waiting_tokens: int
    """Tokens of these texts; estimated for those that are not tokenized yet."""
    run_seconds: float
    """Time that batches took in the graph, summed over the sessions that ran side by side."""
    engine: str = ""
    """The engine that runs batches: ONNX Runtime with its version, or kernels with their path."""
    engine_reason: str = ""
    """The reason for this engine."""
