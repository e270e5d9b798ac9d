"""Tests of all-MiniLM-L6-v2 with its published weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from comparison import Pair, assert_agrees, embed_alone, original, texts_of_every_length
from embedrt import Bundle, Embedder, semantic_search
from model_folders import minilm_folder

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
QUERY = "How many people live in London?"
DOCUMENTS = [
    "Around 9 Million people live in London",
    "London is known for its financial district",
]


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_agrees_at_every_length_and_past_the_maximum(
    minilm: Path, embedder: Embedder, step: int
) -> None:
    """At every length of small models too; of this one's 256, by default each sixth."""
    texts = texts_of_every_length(embedder, 280)
    assert set(texts) == set(range(2, 281))
    chosen = {*range(2, 281, step), *range(254, 260)}
    assert_agrees(Pair(minilm_folder(), minilm), [texts[length] for length in sorted(chosen)])


def test_ranking_of_the_model_card(embedder: Embedder) -> None:
    scores = embedder.similarity(
        embedder.encode_query([QUERY]), embedder.encode_document(DOCUMENTS)
    )
    assert scores[0, 0] > scores[0, 1] + 0.2
    model = original(minilm_folder())
    expected = embed_alone(model, [QUERY]) @ embed_alone(model, DOCUMENTS).T
    assert np.abs(scores - expected).max() < 2e-6
    hits = semantic_search(embedder.encode([QUERY]), embedder.encode(DOCUMENTS), top_k=2)
    assert [hit.index for hit in hits[0]] == [0, 1]


def test_manifest(minilm: Path) -> None:
    manifest = Bundle.open(minilm, verify="sha256").manifest
    assert manifest.source.id == "sentence-transformers/all-MiniLM-L6-v2"
    assert manifest.source.weights == {"model.safetensors": WEIGHTS}
    assert manifest.source.license == "apache-2.0"
    assert (manifest.family, manifest.builder) == ("bert", "fused")
    assert (manifest.dimension, manifest.max_tokens) == (384, 256)
    assert (manifest.pooling, manifest.normalized) == (("mean",), True)
    assert manifest.similarity == "cosine"
