"""Tests of the LanceDB adapter, including a table that another process opens again."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lancedb.embeddings import get_registry
from lancedb.pydantic import LanceModel, Vector
from pydantic import ValidationError

from embedrt import Embedder
from embedrt.integrations.lancedb import EmbedrtFunction
from scifact import DOCUMENTS, IDS, QUERIES, found_by, ranking

SEARCH = """
import json, sys
import lancedb
import embedrt.integrations.lancedb

folder, top, *queries = sys.argv[1:]
table = lancedb.connect(folder).open_table("abstracts")
found = [table.search(query).distance_type("cosine").limit(int(top)).to_list() for query in queries]
print(json.dumps([[row["id"] for row in rows] for rows in found]))
"""


def make_table(folder: Path, bundle: Path) -> Any:
    function = get_registry().get("embedrt").create(bundle=bundle, threads=1, kernels="off")

    class Abstract(LanceModel):
        id: str
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()  # type: ignore[valid-type]

    return lancedb.connect(folder).create_table("abstracts", schema=Abstract)


def test_same_bytes(bundle: Path) -> None:
    function = EmbedrtFunction.create(bundle=str(bundle))
    with Embedder.load(bundle) as plain:
        documents, query = plain.encode_document(QUERIES), plain.encode_query(QUERIES[:1])
    assert function.ndims() == 384
    assert np.array_equal(function.compute_source_embeddings(QUERIES), documents)
    assert np.array_equal(function.compute_query_embeddings(QUERIES[0]), query)
    first, missing, second = function.compute_source_embeddings([QUERIES[0], None, QUERIES[1]])
    assert missing is None
    assert np.array_equal([first, second], documents[:2])


def test_fields_are_the_options_of_load(minilm: Path) -> None:
    options = inspect.signature(Embedder.load).parameters.keys() - {"path"}
    assert EmbedrtFunction.model_fields.keys() - {"bundle", "max_retries"} == options
    chosen: dict[str, Any] = {
        "threads": 1, "overlong": "error", "cache_mb": 1, "max_waiting_tokens": 9_000,
        "mapped": False, "kernels": "off", "verify": "sha256",
    }  # fmt: skip
    assert chosen.keys() == options
    function = EmbedrtFunction.create(bundle=minilm, **chosen)
    with Embedder.load(minilm, **chosen) as plain:
        assert function._encoder.embedder.options == plain.options
    with pytest.raises(ValidationError, match="thread"):
        EmbedrtFunction.create(bundle=minilm, thread=1)


def test_search_in_another_process(prompted: Path, tmp_path: Path) -> None:
    table = make_table(tmp_path, prompted)
    table.add([{"id": name, "text": text} for name, text in zip(IDS, DOCUMENTS, strict=True)])
    assert found_by(SEARCH, tmp_path) == ranking(prompted)
