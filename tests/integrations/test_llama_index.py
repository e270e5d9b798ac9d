"""Tests of the LlamaIndex adapter: one call per batch, async, saving, and a search in an index."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from pydantic import ValidationError

from embedrt import Embedder
from embedrt.integrations.llama_index import EmbedrtEmbedding
from scifact import DOCUMENTS, IDS, QUERIES, TOP, ranking


def test_same_bytes(bundle: Path) -> None:
    model = EmbedrtEmbedding(bundle)
    with Embedder.load(bundle) as plain:
        documents = plain.encode_document(QUERIES).tolist()
        query = plain.encode_query(QUERIES[0]).tolist()
    assert model.get_text_embedding_batch(QUERIES) == documents
    assert [model.get_text_embedding(text) for text in QUERIES] == documents
    assert model.get_query_embedding(QUERIES[0]) == query
    assert asyncio.run(model.aget_text_embedding_batch(QUERIES)) == documents
    assert asyncio.run(model.aget_text_embedding(QUERIES[1])) == documents[1]
    assert asyncio.run(model.aget_query_embedding(QUERIES[0])) == query


def test_a_batch_is_one_call(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = Embedder.encode_document

    def counted(self: Embedder, texts: list[str], **options: Any) -> Any:
        calls.append(len(texts))
        return plain(self, texts, **options)

    monkeypatch.setattr(Embedder, "encode_document", counted)
    texts = ["a text"] * 5_000
    EmbedrtEmbedding(minilm, embed_batch_size=5_000).get_text_embedding_batch(texts)
    EmbedrtEmbedding(minilm).get_text_embedding_batch(texts)
    assert calls == [5_000, 2048, 2048, 904]


def test_saved(prompted: Path) -> None:
    model = EmbedrtEmbedding(prompted, options={"threads": 1})
    assert model.model_name == "all-MiniLM-L6-v2-fp32"
    again = EmbedrtEmbedding.from_dict(model.to_dict())
    assert again.to_dict() == model.to_dict()
    pickled = pickle.loads(pickle.dumps(model))
    assert pickled.get_query_embedding("a") == again.get_query_embedding("a")


def test_an_unknown_field_is_refused(minilm: Path) -> None:
    with pytest.raises(ValidationError, match="threads"):
        EmbedrtEmbedding(minilm, threads=1)


def test_search(minilm: Path) -> None:
    texts = zip(IDS, DOCUMENTS, strict=True)
    nodes = [TextNode(id_=name, text=text) for name, text in texts]
    index = VectorStoreIndex(nodes, embed_model=EmbedrtEmbedding(minilm))
    retriever = index.as_retriever(similarity_top_k=TOP)
    found = [[hit.node_id for hit in retriever.retrieve(query)] for query in QUERIES]
    assert found == ranking(minilm)
