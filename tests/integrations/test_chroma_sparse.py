"""Chroma's sparse embedding function: its vectors, and a collection that is opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chromadb.api.types import SparseVector, validate_sparse_embedding_function
from chromadb.utils.embedding_functions import sparse_known_embedding_functions

from embedrt.bundle.manifest import QueryWeights
from embedrt.integrations.chroma_sparse import EmbedrtSparseEmbeddingFunction
from tiny_sparse import make_tiny_sparse

PROMPTS = {"query": "w3 ", "document": "w4 "}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    queries = QueryWeights(max_tokens=8, by_default=False)
    return make_tiny_sparse(tmp_path / "tiny", prompts=PROMPTS, queries=queries)


def test_both_sides(bundle: Path) -> None:
    function = EmbedrtSparseEmbeddingFunction(bundle, threads=1)
    validate_sparse_embedding_function(function)
    assert function(["w1 w1", "w5"]) == [
        SparseVector(indices=[7, 28], values=[2.0, 1.0]),
        SparseVector(indices=[28, 35], values=[1.0, 1.0]),
    ]
    assert function.embed_query(["w1"]) == [SparseVector(indices=[1, 3], values=[1.0, 0.5])]


def test_a_single_text_is_refused(bundle: Path) -> None:
    function = EmbedrtSparseEmbeddingFunction(bundle)
    one: Any = "w1"
    for embed in (function, function.embed_query):
        with pytest.raises(TypeError, match=r"list of texts, \['w1'\]"):
            embed(one)


def test_registered(bundle: Path) -> None:
    function = EmbedrtSparseEmbeddingFunction(bundle, threads=1)
    assert sparse_known_embedding_functions["embedrt_sparse"] is EmbedrtSparseEmbeddingFunction
    config = json.loads(json.dumps(function.get_config()))
    again = EmbedrtSparseEmbeddingFunction.build_from_config(config)
    assert again.get_config() == config
    assert again(["w1"]) == function(["w1"])
