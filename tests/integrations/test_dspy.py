"""Tests of the DSPy adapter: a cache per bundle, and a search with DSPy's retriever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dspy
import numpy as np
import pytest
from dspy.clients.cache import Cache
from dspy.retrievers import Embeddings

from embedrt import Embedder
from embedrt.errors import OverlongTextError
from embedrt.integrations.dspy import embedder
from scifact import DOCUMENTS, IDS, QUERIES, TOP, ranking


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(
        enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(tmp_path / "cache")
    )
    monkeypatch.setattr(dspy, "cache", cache)


def test_same_bytes(bundle: Path) -> None:
    model = embedder(bundle, batch_size=7)
    with Embedder.load(bundle) as plain:
        expected, queries = plain.encode(QUERIES), plain.encode_query(QUERIES)
    assert np.array_equal(model(QUERIES), expected)
    assert np.array_equal(model(QUERIES), expected)  # cached
    assert np.array_equal(asyncio.run(model.acall(QUERIES)), expected)
    assert np.array_equal(model(QUERIES[0]), expected[0])
    assert np.array_equal(embedder(bundle, prompt_name="query")(QUERIES), queries)


def test_caches_distinguish_bundles(minilm: Path, prompted: Path) -> None:
    first, second = embedder(minilm), embedder(prompted)
    assert not np.array_equal(first(QUERIES), second(QUERIES))
    assert np.array_equal(first(QUERIES), embedder(minilm)(QUERIES))


def test_caches_distinguish_options(minilm: Path) -> None:
    """A cached vector of a truncated text does not replace the error, nor one engine the other."""
    text = "word " * 300
    embedder(minilm)(text)
    with pytest.raises(OverlongTextError):
        embedder(minilm, options={"overlong": "error"})(text)
    with Embedder.load(minilm) as plain:
        assert plain.stats().engine in embedder(minilm).model.__name__
    names = {embedder(minilm, options={"threads": count}).model.__name__ for count in (1, 2)}
    assert len(names) == 1


def test_dspys_own_cache_does_not_distinguish_bundles(minilm: Path, prompted: Path) -> None:
    """If this fails, DSPy's cache distinguishes functions, and the adapter is no longer needed."""
    with Embedder.load(minilm) as one, Embedder.load(prompted) as other:
        wrong = dspy.Embedder(one.encode)(QUERIES), dspy.Embedder(other.encode)(QUERIES)
        assert np.array_equal(*wrong)
        assert not np.array_equal(one.encode(QUERIES), other.encode(QUERIES))


def test_cached_vectors_are_reused(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = embedder(minilm)(QUERIES)
    monkeypatch.setattr(Embedder, "encode", lambda *_, **__: 1 / 0)
    assert np.array_equal(embedder(minilm)(QUERIES), expected)


def test_search(minilm: Path) -> None:
    search = Embeddings(corpus=DOCUMENTS, embedder=embedder(minilm), k=TOP)
    found = [[IDS[index] for index in search(query).indices] for query in QUERIES]
    assert found == ranking(minilm)
