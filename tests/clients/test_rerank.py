"""Clients of rerankers, unmodified, against a real server, bit for bit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import litellm
import numpy as np
import pytest
from haystack import Document
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

from embedrt import Reranker
from serving import Serving, serving
from tiny_bundle import make_tiny_reranker

QUERY = "w1"
TEXTS = ["w1", "w3 w1", "w0", "w2"]
BEST_FIRST = [1, 3, 0, 2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_reranker(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def ranking(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(bundle, tmp_path_factory.mktemp("ranking") / "log", "--max-texts", "9") as server:
        yield server


@pytest.fixture(scope="module")
def scores(bundle: Path) -> list[float]:
    """The expected scores from 0 to 1, best first."""
    with Reranker.load(bundle) as reranker:
        ranked = reranker.rank(QUERY, TEXTS, activation_fn="Sigmoid")
    assert [each["corpus_id"] for each in ranked] == BEST_FIRST
    return [each["score"] for each in ranked]


def rounded(scores: list[Any]) -> list[float]:
    """Return the float32 that JSON wrote with the fewest digits."""
    return [float(np.float32(score)) for score in scores]


@pytest.mark.parametrize("version", [1, 2])
def test_cohere(ranking: Serving, scores: list[float], version: int) -> None:
    kind = cohere.Client if version == 1 else cohere.ClientV2
    with kind(api_key="none", base_url=ranking.url) as client:
        answer = client.rerank(model="any", query=QUERY, documents=TEXTS)
        two = client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=2)
        with pytest.raises(cohere.BadRequestError) as raised:
            client.rerank(model="any", query=QUERY, documents=[])
    assert [each.index for each in answer.results] == BEST_FIRST
    assert rounded([each.relevance_score for each in answer.results]) == scores
    assert len(two.results) == 2
    assert raised.value.body["message"].startswith("documents is empty")


def test_cohere_returns_documents(ranking: Serving) -> None:
    documents = [{"text": text} for text in TEXTS]
    with cohere.Client(api_key="none", base_url=ranking.url) as client:
        answer = client.rerank(model="any", query=QUERY, documents=documents, return_documents=True)
    assert [each.document.text for each in answer.results] == [TEXTS[at] for at in BEST_FIRST]


def test_cohere_async(ranking: Serving, scores: list[float]) -> None:
    async def main() -> list[float]:
        async with cohere.AsyncClientV2(api_key="none", base_url=ranking.url) as client:
            answer = await client.rerank(model="any", query=QUERY, documents=TEXTS)
        return [each.relevance_score for each in answer.results]

    assert rounded(asyncio.run(main())) == scores


def test_llama_index(ranking: Serving, scores: list[float]) -> None:
    ranker = TextEmbeddingInference(base_url=ranking.url, top_n=3)
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    found = ranker.postprocess_nodes(nodes, QueryBundle(QUERY))
    assert [each.node.get_content() for each in found] == [TEXTS[at] for at in BEST_FIRST[:3]]
    assert rounded([each.score for each in found]) == scores[:3]


def test_haystack(ranking: Serving, scores: list[float]) -> None:
    documents = [Document(content=text) for text in TEXTS]
    ranker = HuggingFaceTEIRanker(url=ranking.url, top_k=3)
    for found in (
        ranker.run(query=QUERY, documents=documents),
        asyncio.run(ranker.run_async(query=QUERY, documents=documents)),
    ):
        assert [each.content for each in found["documents"]] == [TEXTS[at] for at in BEST_FIRST[:3]]
        assert rounded([each.score for each in found["documents"]]) == scores[:3]
    raw = HuggingFaceTEIRanker(url=ranking.url, raw_scores=True)
    found = raw.run(query=QUERY, documents=documents)
    assert [each.score for each in found["documents"]] == [4, 2, 1, 0]
    with pytest.raises(RuntimeError, match="send at most 9 at once"):
        ranker.run(query=QUERY, documents=[Document(content=f"w{at}") for at in range(10)])


@pytest.mark.parametrize(
    "provider", ["huggingface", "jina_ai", "cohere", "infinity", "hosted_vllm"]
)
def test_litellm(ranking: Serving, scores: list[float], provider: str) -> None:
    answer = litellm.rerank(
        model=f"{provider}/any",
        query=QUERY,
        documents=TEXTS,
        top_n=3,
        api_base=ranking.url,
        api_key="none",
        return_documents=provider != "infinity",  # it takes an object for a text
    )
    assert [each["index"] for each in answer.results] == BEST_FIRST[:3]
    assert rounded([each["relevance_score"] for each in answer.results]) == scores[:3]
    if provider != "infinity":
        found = [each["document"]["text"] for each in answer.results]
        assert found == [TEXTS[at] for at in BEST_FIRST[:3]]
