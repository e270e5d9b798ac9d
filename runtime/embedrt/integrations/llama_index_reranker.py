"""LlamaIndex: a reranker as a node postprocessor. Needs embedrt[llama-index]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedrt.integrations.encoder import load_shared
from embedrt.integrations.extras import needs
from embedrt.reranker import Ranked, Reranker

with needs("llama_index"):
    from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle


class EmbedrtRerank(BaseNodePostprocessor):
    """Returns the nodes with the best scores for a query, best first, with these scores.

    A node is scored by the text that an embedding model would get: its content, and the metadata
    that the node does not exclude.

    Parameters
    ----------
    bundle
        The bundle's folder.
    fields
        ``top_n``: the number of nodes to return. ``options``: keywords of `embedrt.Reranker.load`.
        The others are those of BaseNodePostprocessor.
    """

    model_config = ConfigDict(extra="forbid")

    bundle: str
    top_n: int = Field(default=2, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)
    _reranker: Reranker = PrivateAttr()

    def __init__(self, bundle: str | Path, **fields: Any) -> None:
        super().__init__(bundle=str(bundle), **fields)
        self._reranker = load_shared(Reranker, self.bundle, self.options)

    @classmethod
    def class_name(cls) -> str:
        """Return the name that a saved pipeline has for this class."""
        return "EmbedrtRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, texts = _query(query_bundle), _texts(nodes)
        return _best(nodes, self._reranker.rank(query, texts, self.top_n))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, texts = _query(query_bundle), _texts(nodes)
        return _best(nodes, await self._reranker.arank(query, texts, self.top_n))


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise ValueError("there is no query; pass query_str or query_bundle")
    query: str = query_bundle.query_str
    return query


def _texts(nodes: Sequence[NodeWithScore]) -> list[str]:
    return [each.node.get_content(metadata_mode=MetadataMode.EMBED) for each in nodes]


def _best(nodes: Sequence[NodeWithScore], ranked: Sequence[Ranked]) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=nodes[each["corpus_id"]].node, score=each["score"]) for each in ranked
    ]
