"""Haystack: a bundle as the embedders of queries and of documents. Needs embedrt[haystack].

Haystack loads saved pipelines only from its own modules and those that the caller allows:
``Pipeline.loads(text, allowed_modules=["embedrt.integrations.haystack"])``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from embedrt.integrations.encoder import Encoder
from embedrt.integrations.extras import needs
from embedrt.integrations.haystack_settings import Settings

with needs("haystack"):
    from haystack import Document, component


@component
class EmbedrtTextEmbedder(Settings[Encoder]):
    """Embeds one query.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `embedrt.Embedder.load`.
    prefix
        The text before the query; None takes the model's prompt for queries.
    suffix
        The text after the query.
    """

    def __init__(
        self,
        bundle: str,
        options: dict[str, Any] | None = None,
        prefix: str | None = None,
        suffix: str = "",
    ) -> None:
        Settings.__init__(  # component() replaces the class, and super() is that of the old one
            self, Encoder.load, bundle=str(bundle), options=options, prefix=prefix, suffix=suffix
        )

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embed the text. Shape: (dimension,)."""
        return {"embedding": self.warm_up().queries([self.query(text)], self.prefix)[0]}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Embed like `run`, without blocking the running asyncio loop."""
        vectors = await self.warm_up().aqueries([self.query(text)], self.prefix)
        return {"embedding": vectors[0]}


@component
class EmbedrtDocumentEmbedder(Settings[Encoder]):
    """Embeds documents; returns copies of them that have their embeddings.

    Parameters
    ----------
    bundle, options, suffix
        As for `EmbedrtTextEmbedder`.
    prefix
        The text before each document; None takes the model's prompt for documents.
    meta_fields_to_embed
        Names of metadata to put before the content.
    embedding_separator
        The text between these and the content.
    """

    def __init__(
        self,
        bundle: str,
        options: dict[str, Any] | None = None,
        prefix: str | None = None,
        suffix: str = "",
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        Settings.__init__(
            self,
            Encoder.load,
            bundle=str(bundle),
            options=options,
            prefix=prefix,
            suffix=suffix,
            meta_fields_to_embed=meta_fields_to_embed,
            embedding_separator=embedding_separator,
        )

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embed the documents."""
        vectors = self.warm_up().documents(self.texts(documents), self.prefix)
        return _with_embeddings(documents, vectors)

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Embed like `run`, without blocking the running asyncio loop."""
        vectors = await self.warm_up().adocuments(self.texts(documents), self.prefix)
        return _with_embeddings(documents, vectors)


def _with_embeddings(documents: list[Document], vectors: list[list[float]]) -> dict[str, Any]:
    pairs = zip(documents, vectors, strict=True)
    return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
