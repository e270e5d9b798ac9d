"""The input of a measured bundle for a text: the text alone, or a pair of a query and the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedrt.bundle.manifest import Task
from embedrt.bundle.reader import Bundle
from embedrt.loaded import LoadedBundle, LoadOptions
from embedrt.tasks import load_any

QUERY = "How many people live in London?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """How the bundles of a task run texts and count their tokens."""

    run: Callable[[Any, Sequence[str]], object]
    run_one: Callable[[Any, str], object]
    count: Callable[[Any, str], int]


_ENCODER = Runs(
    run=lambda encoder, texts: encoder.encode_document(texts),
    run_one=lambda encoder, text: encoder.encode_document(text),
    count=lambda encoder, text: encoder.count_tokens(text),
)
RUNS: dict[Task, Runs] = {
    "embedding": Runs(
        run=lambda embedder, texts: embedder.encode(texts),
        run_one=lambda embedder, text: embedder.encode(text),
        count=lambda embedder, text: embedder.count_tokens(text),
    ),
    "reranking": Runs(
        run=lambda reranker, texts: reranker.predict([(QUERY, text) for text in texts]),
        run_one=lambda reranker, text: reranker.predict((QUERY, text)),
        count=lambda reranker, text: reranker.count_pair_tokens((QUERY, text)),
    ),
    "sparse": _ENCODER,
    "late-interaction": _ENCODER,
}


def runs_of(loaded: LoadedBundle) -> Runs:
    """Return how a loaded bundle runs texts."""
    return RUNS[loaded.manifest.task]


def load(path: str | Path, threads: int | None = None) -> LoadedBundle:
    """Load the bundle at `path`, of any task."""
    return load_any(Bundle.open(path), LoadOptions(threads=threads))
