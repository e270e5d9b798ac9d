"""LlamaIndex's node postprocessor: the scores, metadata, async, saved, and behind an index."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import ValidationError

from embedrt.integrations.llama_index import EmbedrtEmbedding
from embedrt.integrations.llama_index_reranker import EmbedrtRerank
from tiny_bundle import make_tiny

TEXTS = {"a": "w1", "b": "w9", "c": "w1 w1", "d": "w2"}


def nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(id_=name, text=text), score=0.5) for name, text in TEXTS.items()
    ]


def shown(found: list[NodeWithScore]) -> list[tuple[str, float | None]]:
    return [(each.node_id, each.score) for each in found]


def test_the_best_with_their_scores(ranks: Path) -> None:
    ranker = EmbedrtRerank(ranks, top_n=3)
    best = [("b", 9.0), ("c", 2.0), ("d", 2.0)]
    given = nodes()
    assert shown(ranker.postprocess_nodes(given, query_str="w1")) == best
    assert shown(asyncio.run(ranker.apostprocess_nodes(given, query_str="w1"))) == best
    assert [each.score for each in given] == [0.5] * 4
    assert ranker.postprocess_nodes([], query_str="w1") == []
    with pytest.raises(ValueError, match="there is no query"):
        ranker.postprocess_nodes(given)


def test_metadata_count_as_the_node_says(ranks: Path) -> None:
    node = TextNode(
        text="w1", metadata={"kept": "w5", "left": "w7"}, excluded_embed_metadata_keys=["left"],
        metadata_template="{value}", text_template="{metadata_str} {content}",
    )  # fmt: skip
    ranker = EmbedrtRerank(ranks)
    (found,) = ranker.postprocess_nodes([NodeWithScore(node=node)], query_str="w1")
    assert found.score == 6


def test_saved(ranks: Path) -> None:
    ranker = EmbedrtRerank(ranks, top_n=1, options={"threads": 1})
    again = EmbedrtRerank.from_dict(ranker.to_dict())
    assert again.to_dict() == ranker.to_dict()
    for each in (again, pickle.loads(pickle.dumps(ranker))):
        assert shown(each.postprocess_nodes(nodes(), query_str="w1")) == [("b", 9.0)]


def test_an_unknown_field_is_refused(ranks: Path) -> None:
    with pytest.raises(ValidationError, match="top_k"):
        EmbedrtRerank(ranks, top_k=1)


def test_behind_an_index(ranks: Path, tmp_path: Path) -> None:
    embedding = EmbedrtEmbedding(make_tiny(tmp_path / "dense"))
    index = VectorStoreIndex([each.node for each in nodes()], embed_model=embedding)
    engine = RetrieverQueryEngine(
        index.as_retriever(similarity_top_k=4),
        get_response_synthesizer(llm=MockLLM()),
        node_postprocessors=[EmbedrtRerank(ranks, top_n=1)],
    )
    assert shown(engine.query("w1").source_nodes) == [("b", 9.0)]
