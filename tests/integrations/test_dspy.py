"""DSPy: caches that tell bundles apart, and a search with its retriever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dspy
import numpy as np
import pytest
from dspy.clients.cache import Cache
from dspy.retrievers import Embeddings

from embedrt import Embedder
from embedrt.integrations.dspy import embedder
from scifact import DOCUMENTS, IDS, QUERIES, TOP, ranking


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(
        enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(tmp_path / "cache")
    )
    monkeypatch.setattr(dspy, "cache", cache)


def test_same_bits(bundle: Path) -> None:
    model = embedder(bundle, batch_size=7)
    with Embedder.load(bundle) as plain:
        expected, queries = plain.encode(QUERIES), plain.encode_query(QUERIES)
    assert np.array_equal(model(QUERIES), expected)
    assert np.array_equal(model(QUERIES), expected)  # from the cache
    assert np.array_equal(asyncio.run(model.acall(QUERIES)), expected)
    assert np.array_equal(model(QUERIES[0]), expected[0])
    assert np.array_equal(embedder(bundle, prompt_name="query")(QUERIES), queries)


def test_caches_tell_bundles_apart(minilm: Path, prompted: Path) -> None:
    first, second = embedder(minilm), embedder(prompted)
    assert not np.array_equal(first(QUERIES), second(QUERIES))
    assert np.array_equal(first(QUERIES), embedder(minilm)(QUERIES))


def test_the_trap_is_there(minilm: Path, prompted: Path) -> None:
    """If this fails, DSPy's cache has learned to tell functions apart, and the adapter may go."""
    with Embedder.load(minilm) as one, Embedder.load(prompted) as other:
        wrong = dspy.Embedder(one.encode)(QUERIES), dspy.Embedder(other.encode)(QUERIES)
        assert np.array_equal(*wrong)
        assert not np.array_equal(one.encode(QUERIES), other.encode(QUERIES))


def test_what_is_cached_is_not_computed(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embedder(minilm)(QUERIES)
    monkeypatch.setattr(Embedder, "encode", lambda *_, **__: 1 / 0)
    assert np.array_equal(embedder(minilm)(QUERIES), expected)


def test_story(minilm: Path) -> None:
    search = Embeddings(corpus=DOCUMENTS, embedder=embedder(minilm), k=TOP)
    found = [[IDS[index] for index in search(query).indices] for query in QUERIES]
    assert found == ranking(minilm)
