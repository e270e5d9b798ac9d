"""Haystack's sparse embedders: alone, asynchronous, and saved in a pipeline."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import SparseEmbedding

from embedrt.bundle.manifest import QueryWeights
from embedrt.errors import BundleFormatError
from embedrt.integrations.haystack_sparse import (
    EmbedrtSparseDocumentEmbedder,
    EmbedrtSparseTextEmbedder,
)
from tiny_bundle import make_tiny
from tiny_sparse import make_tiny_sparse

PROMPTS = {"query": "w3 ", "document": "w4 "}
DOCS = [Document(content="w1 w1", meta={"title": "w9"}), Document(content=None)]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    queries = QueryWeights(max_tokens=8, by_default=False)
    return make_tiny_sparse(tmp_path / "tiny", prompts=PROMPTS, queries=queries)


def embeddings(result: dict[str, Any]) -> list[SparseEmbedding]:
    return [each.sparse_embedding for each in result["documents"]]


def test_both_sides(bundle: Path) -> None:
    text = EmbedrtSparseTextEmbedder(str(bundle))
    expected = {"sparse_embedding": SparseEmbedding(indices=[1, 3], values=[1, 0.5])}
    assert text.run("w1") == asyncio.run(text.run_async("w1")) == expected
    documents = EmbedrtSparseDocumentEmbedder(str(bundle), {"threads": 1})
    found = [
        SparseEmbedding(indices=[7, 28], values=[2, 1]),
        SparseEmbedding(indices=[28], values=[1]),
    ]
    assert embeddings(documents.run(DOCS)) == found
    assert embeddings(asyncio.run(documents.run_async(DOCS))) == found
    assert [each.sparse_embedding for each in DOCS] == [None, None]
    assert documents.run([]) == {"documents": []}


def test_text_around(bundle: Path) -> None:
    text = EmbedrtSparseTextEmbedder(str(bundle), prefix="w2 ", suffix=" w1")
    assert text.run("w5")["sparse_embedding"].indices == [1, 2, 5]
    documents = EmbedrtSparseDocumentEmbedder(
        str(bundle), prefix="", meta_fields_to_embed=["title"], embedding_separator=" "
    )
    assert embeddings(documents.run(DOCS))[0].indices == [7, 63]


def test_a_bundle_of_another_task(tmp_path: Path) -> None:
    embedder = EmbedrtSparseTextEmbedder(str(make_tiny(tmp_path / "dense")))
    with pytest.raises(BundleFormatError, match=r"use Embedder\.load"):
        embedder.warm_up()


def test_a_saved_pipeline(bundle: Path) -> None:
    pipeline = Pipeline()
    pipeline.add_component("text", EmbedrtSparseTextEmbedder(str(bundle), {"threads": 1}, "w9 "))
    pipeline.add_component("documents", EmbedrtSparseDocumentEmbedder(str(bundle)))
    module = EmbedrtSparseTextEmbedder.__module__
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=[module])
    assert loaded.to_dict() == pipeline.to_dict()
    asked = {"text": {"text": "w1 w2"}, "documents": {"documents": DOCS}}
    assert loaded.run(asked) == pipeline.run(asked)
