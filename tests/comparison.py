"""Compares a bundle with the model that it was exported from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from embedrt import Embedder
from embedrt_export import export_model
from model_folders import make_small

TOLERANCE = 2e-6
MIN_COSINE = 0.999999

# Each character adds at most one token with any of the tokenizers.
LETTERS = "the quick brown fox jumps over 12 lazy dogs, again and again: Vexed nymphs go! "


# Texts that contain special tokens by name.
SPECIAL_TEXTS = [
    template.format(token)
    for token in "[PAD] [CLS] [SEP] [MASK] [UNK] <pad> <s> </s> <mask>".split()
    for template in ("a {0} b", "{0}", "{0}{0} the {0} dog {0}", "a {0}", "{0} a")
]


@dataclass(frozen=True, slots=True)
class Pair:
    """A model's folder and the bundle exported from it."""

    folder: Path
    bundle: Path


def small_pair(parent: Path, family: str) -> Pair:
    """Return the paths at which `export_small` writes the model and the bundle."""
    return Pair(parent / family, parent / f"{family}-fp32")


def export_small(parent: Path, family: str, **options: Any) -> Pair:
    """Make a small model with `make_small` and export it."""
    pair = small_pair(parent, family)
    make_small(pair.folder, family, **options)
    export_model(str(pair.folder), output=pair.bundle)
    return pair


def original(folder: Path) -> SentenceTransformer:
    """Load the original model with sentence-transformers."""
    model: SentenceTransformer = SentenceTransformer(
        str(folder), device="cpu", local_files_only=True
    )
    return model


def embed_alone(model: SentenceTransformer, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts with the original, one per call, without padding and prompts."""
    return np.stack([model.encode(text, prompt="") for text in texts])


def texts_of_every_length(embedder: Embedder, longest: int) -> Mapping[int, str]:
    """Return a text for each token count, from that of the empty text to `longest`."""
    texts: dict[int, str] = {}
    for text in _growing():
        count = embedder.count_tokens(text)
        if count > longest:
            return texts
        texts.setdefault(count, text)
    raise AssertionError("it grows for ever")


def assert_agrees(pair: Pair, texts: Sequence[str]) -> None:
    """Assert that the bundle agrees with the original within the tolerance.

    The difference is relative to the largest component if the embedding is not normalized.
    """
    expected = embed_alone(original(pair.folder), texts)
    with Embedder.load(pair.bundle, verify="sha256") as embedder:
        found = embedder.encode(list(texts), prompt="")
        normalized = embedder.manifest.normalized
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert largest_difference(found, expected, normalized=normalized) <= TOLERANCE
    assert smallest_cosine(found, expected) >= MIN_COSINE


def largest_difference(
    found: NDArray[np.float32], expected: NDArray[np.float32], *, normalized: bool
) -> float:
    """Return the largest difference of a component, absolute or relative to the text's largest."""
    scale = 1.0 if normalized else np.abs(expected).max(axis=1, keepdims=True)
    return float((np.abs(found - expected) / scale).max())


def smallest_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the smallest cosine between rows of the same index."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    return float(((a64 * b64).sum(axis=1) / lengths).min())


def _growing() -> Iterator[str]:
    text = ""
    while True:
        for letter in LETTERS:
            yield text
            text += letter
