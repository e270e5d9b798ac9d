"""Haystack: a reranker as a ranker. Needs embedrt[haystack].

Saved pipelines load with ``allowed_modules=["embedrt.integrations.haystack_reranker"]``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from embedrt.arguments import check_count
from embedrt.integrations.encoder import load_shared
from embedrt.integrations.extras import needs
from embedrt.integrations.haystack_settings import Settings
from embedrt.reranker import Ranked, Reranker

with needs("haystack"):
    from haystack import Document, component


_load = partial(load_shared, Reranker)


@component
class EmbedrtRanker(Settings[Reranker]):
    """Returns copies of the documents with the best scores for a query, best first.

    A document that is given twice is ranked once.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `embedrt.Reranker.load`.
    top_k
        Number of documents to return.
    prefix
        The text before the query; None takes the model's default prompt.
    suffix, meta_fields_to_embed, embedding_separator
        As for `EmbedrtDocumentEmbedder`.
    """

    def __init__(
        self,
        bundle: str,
        options: dict[str, Any] | None = None,
        top_k: int = 10,
        prefix: str | None = None,
        suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        _check(top_k)
        Settings.__init__(
            self,
            _load,
            bundle=str(bundle),
            options=options,
            top_k=top_k,
            prefix=prefix,
            suffix=suffix,
            meta_fields_to_embed=meta_fields_to_embed,
            embedding_separator=embedding_separator,
        )

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, Any]:
        """Rank the documents; `top_k` replaces the component's own."""
        found, most = _once(documents), _check(top_k) or self.parameters["top_k"]
        texts = self.texts(found)
        return _best(found, self.warm_up().rank(query, texts, most, prompt=self.prefix))

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, Any]:
        """Rank like `run`, without blocking the running asyncio loop."""
        found, most = _once(documents), _check(top_k) or self.parameters["top_k"]
        texts = self.texts(found)
        return _best(found, await self.warm_up().arank(query, texts, most, prompt=self.prefix))


def _check(top_k: int | None) -> int | None:
    check_count("top_k", top_k, 1, "or None")
    return top_k


def _once(documents: list[Document]) -> list[Document]:
    return list({document.id: document for document in documents}.values())


def _best(documents: list[Document], ranked: list[Ranked]) -> dict[str, Any]:
    return {
        "documents": [replace(documents[each["corpus_id"]], score=each["score"]) for each in ranked]
    }
