"""LangChain: a reranker as a document compressor. Needs embedrt[langchain]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedrt.integrations.encoder import load_shared
from embedrt.integrations.extras import needs
from embedrt.reranker import Ranked, Reranker

with needs("langchain"):
    from langchain_core.documents import BaseDocumentCompressor, Document
    from pydantic import ConfigDict, Field, PrivateAttr


class EmbedrtReranker(BaseDocumentCompressor):
    """Returns the documents with the best scores for a query, best first.

    They are copies with their score as ``relevance_score`` in the metadata.

    Parameters
    ----------
    bundle
        The bundle's folder.
    fields
        ``top_n``: the number of documents to return; None returns all. ``options``: keywords of
        `embedrt.Reranker.load`.
    """

    model_config = ConfigDict(extra="forbid")

    bundle: str
    top_n: int | None = Field(default=3, gt=0)
    options: dict[str, Any] = Field(default_factory=dict)
    _reranker: Reranker = PrivateAttr()

    def __init__(self, bundle: str | Path, **fields: Any) -> None:
        super().__init__(bundle=str(bundle), **fields)
        self._reranker = load_shared(Reranker, self.bundle, self.options)

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Any = None,  # noqa: ARG002  # as the base class has it
    ) -> list[Document]:
        """Return the best documents."""
        texts = [document.page_content for document in documents]
        return _best(documents, self._reranker.rank(query, texts, self.top_n))

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Any = None,  # noqa: ARG002
    ) -> list[Document]:
        """Return the best documents, without blocking the running asyncio loop."""
        texts = [document.page_content for document in documents]
        return _best(documents, await self._reranker.arank(query, texts, self.top_n))


def _best(documents: Sequence[Document], ranked: Sequence[Ranked]) -> list[Document]:
    return [_scored(documents[each["corpus_id"]], each["score"]) for each in ranked]


def _scored(document: Document, score: float) -> Document:
    metadata = {**document.metadata, "relevance_score": score}
    return document.model_copy(update={"metadata": metadata})
