"""Tests of the Chroma adapter, including a collection that another process searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.utils.embedding_functions import known_embedding_functions

from embedrt import Embedder
from embedrt.integrations.chroma import EmbedrtEmbeddingFunction
from scifact import DOCUMENTS, IDS, QUERIES, found_by, ranking
from tiny_bundle import make_tiny

SEARCH = """
import json, sys
import chromadb
import embedrt.integrations.chroma

folder, top, *queries = sys.argv[1:]
settings = chromadb.Settings(anonymized_telemetry=False)
collection = chromadb.PersistentClient(folder, settings).get_collection("abstracts")
print(json.dumps(collection.query(query_texts=queries, n_results=int(top))["ids"]))
"""


def client(folder: Path) -> Any:
    return chromadb.PersistentClient(
        str(folder), settings=chromadb.Settings(anonymized_telemetry=False)
    )


def test_same_bytes(bundle: Path) -> None:
    function = EmbedrtEmbeddingFunction(bundle, threads=1)
    with Embedder.load(bundle) as plain:
        documents, queries = plain.encode_document(QUERIES), plain.encode_query(QUERIES)
    assert np.array_equal(function(QUERIES), documents)
    assert np.array_equal(function.embed_query(QUERIES), queries)


def test_a_single_text_is_refused(minilm: Path) -> None:
    function = EmbedrtEmbeddingFunction(minilm)
    one: Any = "a text"
    for embed in (function, function.embed_query):
        with pytest.raises(TypeError, match=r"list of texts, \['a text'\]"):
            embed(one)


def test_registered(minilm: Path) -> None:
    function = EmbedrtEmbeddingFunction(minilm, threads=1)
    assert known_embedding_functions["embedrt"] is EmbedrtEmbeddingFunction
    config = json.loads(json.dumps(function.get_config()))
    again = EmbedrtEmbeddingFunction.build_from_config(config)
    assert again.get_config() == config
    assert not function.is_legacy()


@pytest.mark.parametrize(
    ("score", "space"), [("cosine", "cosine"), ("dot", "ip"), ("euclidean", "l2")]
)
def test_space_of_the_model(tmp_path: Path, score: str, space: str) -> None:
    function = EmbedrtEmbeddingFunction(make_tiny(tmp_path / "tiny", similarity=score))
    collection = client(tmp_path / "db").create_collection("words", embedding_function=function)
    assert collection.configuration["hnsw"]["space"] == space


def test_no_space_for_the_model(tmp_path: Path) -> None:
    function = EmbedrtEmbeddingFunction(make_tiny(tmp_path / "tiny", similarity="manhattan"))
    with pytest.warns(UserWarning, match="manhattan"):
        assert function.default_space() == "l2"


def test_search_in_another_process(minilm: Path, tmp_path: Path) -> None:
    collection = client(tmp_path).create_collection(
        "abstracts", embedding_function=EmbedrtEmbeddingFunction(minilm)
    )
    collection.add(ids=IDS, documents=DOCUMENTS)
    assert found_by(SEARCH, tmp_path) == ranking(minilm)
