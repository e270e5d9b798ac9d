"""Tests of the LangChain adapter, including LangChain's own conformance tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from embedrt import Embedder
from embedrt.integrations.langchain import EmbedrtEmbeddings
from scifact import CLAIMS, DOCUMENTS, IDS, QUERIES, TOP, ranking


class OfMiniLM:
    """The attributes that the conformance tests require of a test class."""

    @pytest.fixture(autouse=True)
    def _find(self, minilm: Path) -> None:
        self.found = minilm

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return EmbedrtEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"bundle": self.found, "threads": 1}


class TestUnit(OfMiniLM, EmbeddingsUnitTests):
    """LangChain's own unit tests."""


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:.*it is not an async function")
class TestIntegration(OfMiniLM, EmbeddingsIntegrationTests):
    """LangChain's own integration tests."""


def test_same_bytes(bundle: Path) -> None:
    model = EmbedrtEmbeddings(bundle)
    with Embedder.load(bundle) as plain:
        documents = plain.encode_document(QUERIES).tolist()
        query = plain.encode_query(QUERIES[0]).tolist()
    assert model.embed_documents(QUERIES) == documents
    assert model.embed_query(QUERIES[0]) == query
    assert asyncio.run(model.aembed_documents(QUERIES)) == documents
    assert asyncio.run(model.aembed_query(QUERIES[0])) == query


def test_search(minilm: Path) -> None:
    store = InMemoryVectorStore(EmbedrtEmbeddings(minilm))
    store.add_texts(DOCUMENTS, ids=IDS)
    found = [[hit.id for hit in store.similarity_search(query, k=TOP)] for query in QUERIES]
    assert found == ranking(minilm)
    assert sum(claim["abstract"] in ids for claim, ids in zip(CLAIMS, found, strict=True)) >= 18
