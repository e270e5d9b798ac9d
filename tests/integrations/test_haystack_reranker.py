"""Haystack's ranker: alone, asynchronous, with metadata, and saved in a pipeline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from embedrt.errors import BundleFormatError
from embedrt.integrations.haystack_reranker import EmbedrtRanker
from tiny_bundle import make_tiny, make_tiny_reranker

DOCUMENTS = [
    Document(id=name, content=text, meta={"title": "w5"} if name == "a" else {})
    for name, text in {"a": "w1", "b": "w9", "c": "w1 w1", "d": "w2", "e": None}.items()
]


def shown(result: dict[str, Any]) -> list[tuple[str, float | None]]:
    return [(each.id, each.score) for each in result["documents"]]


def test_the_best_with_their_scores(ranks: Path) -> None:
    ranker = EmbedrtRanker(str(ranks), {"threads": 1}, top_k=3)
    best = [("b", 9.0), ("c", 2.0), ("d", 2.0)]
    assert shown(ranker.run("w1", DOCUMENTS)) == best
    assert shown(asyncio.run(ranker.run_async("w1", DOCUMENTS))) == best
    assert shown(ranker.run("w1", [*DOCUMENTS, *DOCUMENTS], top_k=4)) == [*best, ("a", 1.0)]
    assert [each.score for each in DOCUMENTS] == [None] * 5
    assert ranker.run("w1", []) == {"documents": []}
    with pytest.raises(ValueError, match="top_k=0; expected at least 1"):
        ranker.run("w1", DOCUMENTS, top_k=0)
    with pytest.raises(ValueError, match="top_k=-1"):
        EmbedrtRanker(str(ranks), top_k=-1)


def test_text_around(tmp_path: Path) -> None:
    bundle = make_tiny_reranker(tmp_path / "ranks", max_tokens=3)
    ranker = EmbedrtRanker(
        str(bundle), suffix=" w3", meta_fields_to_embed=["title"], embedding_separator=" "
    )
    assert dict(shown(ranker.run("", DOCUMENTS))) == {"a": 9, "b": 12, "c": 5, "d": 5, "e": 3}
    # A prompt takes its tokens from the document, which is the longer one.
    prompted = EmbedrtRanker(str(bundle), prefix="w1 ")
    assert dict(shown(prompted.run("", [Document(id="f", content="w2 w3 w4")]))) == {"f": 5}


def test_a_bundle_of_another_task(tmp_path: Path) -> None:
    ranker = EmbedrtRanker(str(make_tiny(tmp_path / "dense")))
    with pytest.raises(BundleFormatError, match=r"use Embedder\.load"):
        ranker.warm_up()


def test_a_saved_pipeline(ranks: Path) -> None:
    store = InMemoryDocumentStore()
    store.write_documents([each for each in DOCUMENTS if each.content])
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store))
    pipeline.add_component("ranker", EmbedrtRanker(str(ranks), {"threads": 1}, top_k=1))
    pipeline.connect("retriever.documents", "ranker.documents")
    asked = {"retriever": {"query": "w1 w9"}, "ranker": {"query": "w1"}}
    assert shown(pipeline.run(asked)["ranker"]) == [("b", 9.0)]

    ranker = EmbedrtRanker(str(ranks), {"threads": 1}, top_k=2, suffix=" w1")
    alone = Pipeline()
    alone.add_component("ranker", ranker)
    loaded = Pipeline.loads(alone.dumps(), allowed_modules=[EmbedrtRanker.__module__])
    assert loaded.to_dict() == alone.to_dict()
    given = {"ranker": {"query": "w1", "documents": DOCUMENTS}}
    assert loaded.run(given) == alone.run(given)
