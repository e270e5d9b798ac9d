"""Encodes texts with sentence-transformers and with a bundle, and compares vectors and speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from embedrt import Embedder, semantic_search
from embedrt.errors import UnsupportedModelError
from embedrt.text.inputs import as_batch, start_of
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.quality import row_cosines
from embedrt_export.quiet import gist
from embedrt_export.source import find_source
from embedrt_export.source.loading import MODEL_OPTIONS, load_original

NEIGHBORS = 10
WORST = 10
MOST_QUERIES = 2_000
"""Texts whose neighbors are compared; with more texts, this many, evenly spread."""
WARM_UP = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two models and its duration."""

    name: str
    seconds: float
    texts_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """The differences between a bundle and its original."""

    texts: int
    original: Side
    bundle: Side
    threads: int
    cosines: NDArray[np.float64]
    """Cosine of each text's two vectors. Shape: (texts,)."""
    worst: list[tuple[float, str]]
    """The smallest cosines, and the beginnings of their texts."""
    shared: NDArray[np.int64]
    """Number of a text's nearest neighbors, among the other texts, that are the same for both.
    Shape: (at most `MOST_QUERIES`,)."""
    neighbors: int
    """Number of neighbors compared: 10, or all other texts if there are fewer."""

    def rows(self) -> list[tuple[str, str]]:
        """Return the table's rows."""
        agreement = self.shared.mean() / self.neighbors
        same = float((self.shared == self.neighbors).mean())
        faster = self.bundle.texts_per_second / self.original.texts_per_second
        return [
            ("texts", f"{self.texts:,}"),
            ("cosine, mean", f"{self.cosines.mean():.6f}"),
            ("cosine, first percentile", f"{np.percentile(self.cosines, 1):.6f}"),
            ("cosine, least", f"{self.cosines.min():.6f}"),
            (
                f"same among the top {self.neighbors}",
                f"{agreement:.2%} of the neighbors; all of them for {same:.2%} of the texts",
            ),
            (self.original.name, f"{self.original.texts_per_second:,.1f} texts/s"),
            (self.bundle.name, f"{self.bundle.texts_per_second:,.1f} texts/s"),
            ("speed", f"{faster:.2f} times, with {self.threads} threads each"),
        ]


def compare(model: str, bundle: str | Path, texts: Sequence[str]) -> Migration:
    """Encode the texts with both, one after the other, by ``encode`` and with equal threads.

    Parameters
    ----------
    model
        A recipe's name, a hub id, or a folder in the hub's layout.
    bundle
        The bundle's folder.
    texts
        At least two. sentence-transformers batches them as it does by default.

    Raises
    ------
    ValueError
        There are fewer than two texts.
    SourceError, BundleError, UnsupportedModelError
        The model or the bundle cannot be loaded, or the model's vectors have another dimension.
    """
    texts = as_batch(texts)
    if len(texts) < 2:
        raise ValueError(f"{len(texts)} texts cannot be compared; give two or more")
    original = _load(find_source(model).folder)
    with Embedder.load(bundle, threads=torch.get_num_threads()) as embedder:
        expected, slow = _timed(original.encode, texts)
        found, fast = _timed(embedder.encode, texts)
        score = embedder.similarity_fn_name
        name = embedder.manifest.name
    if found.shape != expected.shape:
        raise UnsupportedModelError(
            f"{bundle} gives {found.shape[1]} components and {model} {expected.shape[1]}; it was "
            "made from another model"
        )
    count = min(NEIGHBORS, len(texts) - 1)
    rows = np.unique(np.linspace(0, len(texts) - 1, MOST_QUERIES).astype(int))
    near = [_neighbors(vectors, rows, count, score) for vectors in (expected, found)]
    cosines = row_cosines(found, expected)
    return Migration(
        texts=len(texts),
        original=_side(f"sentence-transformers {sentence_transformers.__version__}", slow, texts),
        bundle=_side(name, fast, texts),
        threads=torch.get_num_threads(),
        cosines=cosines,
        worst=[(float(cosines[i]), start_of(texts[i])) for i in np.argsort(cosines)[:WORST]],
        shared=np.array([len(a & b) for a, b in zip(*near, strict=True)]),
        neighbors=count,
    )


def _load(folder: Path) -> SentenceTransformer:
    options = {name: MODEL_OPTIONS[name] for name in ("use_kernels", "dtype")}
    try:
        return load_original(folder, **options)
    except Exception as error:  # malformed files raise any kind
        raise UnsupportedModelError(
            f"sentence-transformers does not load {folder}: {gist(error)}"
        ) from error


def _timed(
    encode: Callable[[Sequence[str]], Any], texts: Sequence[str]
) -> tuple[FloatArray, float]:
    encode(texts[:WARM_UP])
    start = time.perf_counter()
    vectors = np.asarray(encode(texts), np.float32)
    return vectors, time.perf_counter() - start


def _side(name: str, seconds: float, texts: Sequence[str]) -> Side:
    return Side(name=name, seconds=seconds, texts_per_second=len(texts) / seconds)


def _neighbors(
    vectors: FloatArray, rows: NDArray[np.int64], count: int, score: Any
) -> list[set[int]]:
    """Return the nearest other texts of each row."""
    found = semantic_search(vectors[rows], vectors, top_k=count + 1, similarity_fn_name=score)
    return [
        set([hit.index for hit in hits if hit.index != row][:count])
        for row, hits in zip(rows, found, strict=True)
    ]
