"""Haystack's clients of TEI's `/embed_sparse`, unmodified, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from haystack import Document
from haystack.dataclasses import SparseEmbedding
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceTEISparseDocumentEmbedder,
    HuggingFaceTEISparseTextEmbedder,
)

from serving import Serving, serving
from tiny_sparse import make_tiny_sparse

EXPECTED = SparseEmbedding(indices=[7, 14], values=[2.0, 1.0])


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("sparse")
    with serving(make_tiny_sparse(folder / "tiny"), folder / "log") as server:
        yield server


def test_haystack_text(sparse: Serving) -> None:
    embedder = HuggingFaceTEISparseTextEmbedder(api_base_url=sparse.url, token=None)
    assert embedder.run("w1 w2 w1")["sparse_embedding"] == EXPECTED
    embedder.close()


def test_haystack_documents(sparse: Serving) -> None:
    embedder = HuggingFaceTEISparseDocumentEmbedder(
        api_base_url=sparse.url, token=None, batch_size=2, progress_bar=False
    )
    documents = [Document(content=text) for text in ("w1 w2 w1", "", "w9")]
    found = embedder.run(documents=documents)["documents"]
    embedder.close()
    assert [each.sparse_embedding for each in found] == [
        EXPECTED,
        SparseEmbedding(indices=[], values=[]),
        SparseEmbedding(indices=[63], values=[1.0]),
    ]
