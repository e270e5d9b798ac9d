"""LangChain's document compressor: the scores, copies of documents, and in a chain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from embedrt import Reranker
from embedrt.errors import BundleFormatError
from embedrt.integrations.langchain_reranker import EmbedrtReranker
from tiny_bundle import make_tiny

DOCUMENTS = [
    Document(id=name, page_content=text, metadata={"source": name})
    for name, text in {"a": "w1", "b": "w9", "c": "w1 w1", "d": "w2", "e": ""}.items()
]


def shown(documents: list[Document]) -> list[tuple[str | None, float]]:
    return [(each.id, each.metadata["relevance_score"]) for each in documents]


def test_the_best_with_their_scores(ranks: Path) -> None:
    compressor = EmbedrtReranker(ranks)
    best = [("b", 9.0), ("c", 2.0), ("d", 2.0)]  # equal ones in the order given
    assert shown(compressor.compress_documents(DOCUMENTS, "w1")) == best
    assert shown(asyncio.run(compressor.acompress_documents(DOCUMENTS, "w1"))) == best
    everything = EmbedrtReranker(ranks, top_n=None, options={"threads": 1})
    found = everything.compress_documents(DOCUMENTS, "w1")
    assert shown(found) == [*best, ("a", 1.0), ("e", 0.0)]
    assert found[0].metadata == {"source": "b", "relevance_score": 9.0}
    assert [each.metadata.keys() for each in DOCUMENTS] == [{"source"}] * 5
    assert compressor.compress_documents([], "w1") == []


def test_scores_are_the_rerankers(ranks: Path) -> None:
    texts = [each.page_content for each in DOCUMENTS]
    with Reranker.load(ranks) as reranker:
        expected = [each["score"] for each in reranker.rank("w3", texts)]
    found = EmbedrtReranker(ranks, top_n=9).compress_documents(DOCUMENTS, "w3")
    assert [score for _, score in shown(found)] == expected


def test_in_a_chain(ranks: Path) -> None:
    compressor = EmbedrtReranker(ranks, top_n=1)
    retrieve = RunnableLambda(lambda _: DOCUMENTS)
    chain = {"documents": retrieve, "query": RunnableLambda(str)} | RunnableLambda(
        lambda given: compressor.compress_documents(given["documents"], given["query"])
    )
    assert shown(chain.invoke("w1")) == [("b", 9.0)]


def test_wrong_parameters(ranks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="top_n"):
        EmbedrtReranker(ranks, top_n=0)
    with pytest.raises(ValidationError, match="top_k"):
        EmbedrtReranker(ranks, top_k=1)
    with pytest.raises(BundleFormatError, match=r"use Embedder\.load"):
        EmbedrtReranker(make_tiny(tmp_path / "dense"))
