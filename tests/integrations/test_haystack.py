"""Tests of the Haystack components: alone, saved and loaded, and in pipelines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore

from embedrt import Embedder
from embedrt.integrations.haystack import EmbedrtDocumentEmbedder, EmbedrtTextEmbedder
from scifact import DOCUMENTS, IDS, QUERIES, TOP, ranking

DOCS = [
    Document(content="one text", meta={"title": "A", "year": 1999, "empty": None}),
    Document(content="another"),
    Document(content=None),
]


def vectors(result: dict[str, Any]) -> list[list[float]]:
    return [each.embedding for each in result["documents"]]


def test_same_bytes(bundle: Path) -> None:
    text, documents = EmbedrtTextEmbedder(str(bundle)), EmbedrtDocumentEmbedder(str(bundle))
    with Embedder.load(bundle) as plain:
        query = plain.encode_query("a text").tolist()
        expected = plain.encode_document(["one text", "another", ""]).tolist()
    assert text.run("a text") == asyncio.run(text.run_async("a text")) == {"embedding": query}
    assert (
        vectors(documents.run(DOCS)) == vectors(asyncio.run(documents.run_async(DOCS))) == expected
    )
    assert [each.embedding for each in DOCS] == [None] * 3
    assert documents.run([]) == {"documents": []}


def test_each_says_what_it_takes(minilm: Path) -> None:
    """The two are easily exchanged in a pipeline."""
    text, documents = EmbedrtTextEmbedder(str(minilm)), EmbedrtDocumentEmbedder(str(minilm))
    wrong: Any
    for wrong in (DOCS, None):
        with pytest.raises(TypeError, match=r"text must be a str, not .*; a DocumentEmbedder"):
            text.run(wrong)
        with pytest.raises(TypeError, match=r"text must be a str, not .*; a DocumentEmbedder"):
            asyncio.run(text.run_async(wrong))
    for wrong in ("a text", ["a text"], DOCS[0]):
        with pytest.raises(TypeError, match="documents must be a list of Documents"):
            documents.run(wrong)


def test_text_around(prompted: Path) -> None:
    around: dict[str, Any] = {"prefix": "<", "suffix": ">"}
    text = EmbedrtTextEmbedder(str(prompted), **around)
    documents = EmbedrtDocumentEmbedder(
        str(prompted), **around, meta_fields_to_embed=["title", "year", "empty"],
        embedding_separator="|",
    )  # fmt: skip
    with Embedder.load(prompted) as plain:
        query = plain.encode("<a text>", prompt="").tolist()
        expected = plain.encode(["<A|1999|one text>", "<another>", "<>"], prompt="").tolist()
    assert text.run("a text")["embedding"] == query
    assert vectors(documents.run(DOCS)) == expected
    assert vectors(asyncio.run(documents.run_async(DOCS))) == expected


def test_a_component_is_light_until_it_warms_up(tmp_path: Path, minilm: Path) -> None:
    bundle = tmp_path / "later"
    embedder = EmbedrtTextEmbedder(str(bundle))
    with pytest.raises(FileNotFoundError, match="there is no bundle"):
        embedder.warm_up()
    bundle.symlink_to(minilm)
    embedder.warm_up()


def test_indexing_and_search(minilm: Path) -> None:
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    index = Pipeline()
    index.add_component("embedder", EmbedrtDocumentEmbedder(str(minilm), options={"threads": 1}))
    index.add_component("writer", DocumentWriter(store))
    index.connect("embedder", "writer")
    texts = zip(IDS, DOCUMENTS, strict=True)
    documents = [Document(id=name, content=text) for name, text in texts]
    index.run({"embedder": {"documents": documents}})

    search = Pipeline()
    search.add_component("embedder", EmbedrtTextEmbedder(str(minilm)))
    search.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=TOP))
    search.connect("embedder.embedding", "retriever.query_embedding")
    found = [
        [each.id for each in search.run({"embedder": {"text": query}})["retriever"]["documents"]]
        for query in QUERIES
    ]
    assert found == ranking(minilm)


def test_a_saved_pipeline(prompted: Path) -> None:
    made = {
        "text": EmbedrtTextEmbedder(str(prompted), {"threads": 1}, "<", ">"),
        "documents": EmbedrtDocumentEmbedder(
            str(prompted), meta_fields_to_embed=["title"], embedding_separator=" "
        ),
    }
    pipeline = Pipeline()
    for name, component in made.items():
        pipeline.add_component(name, component)
    loaded = Pipeline.loads(pipeline.dumps(), allowed_modules=[EmbedrtTextEmbedder.__module__])
    assert loaded.to_dict() == pipeline.to_dict()
    asked = {"text": {"text": "a text"}, "documents": {"documents": DOCS}}
    assert loaded.run(asked) == pipeline.run(asked)
