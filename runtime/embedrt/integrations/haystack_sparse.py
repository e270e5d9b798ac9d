"""Haystack: a sparse encoder as the sparse embedders of both sides. Needs embedrt[haystack].

Saved pipelines load with ``allowed_modules=["embedrt.integrations.haystack_sparse"]``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from embedrt.integrations.encoder import load_shared
from embedrt.integrations.extras import needs
from embedrt.integrations.haystack_settings import Settings
from embedrt.sparse import SparseEncoder
from embedrt.sparse_rows import SparseRow, SparseRows

with needs("haystack"):
    from haystack import Document, component
    from haystack.dataclasses import SparseEmbedding


_load = partial(load_shared, SparseEncoder)


@component
class EmbedrtSparseTextEmbedder(Settings[SparseEncoder]):
    """Computes the sparse embedding of one query.

    Parameters
    ----------
    bundle, options, prefix, suffix
        As for `EmbedrtTextEmbedder`; `options` are keywords of `SparseEncoder.load`.
    """

    def __init__(
        self,
        bundle: str,
        options: dict[str, Any] | None = None,
        prefix: str | None = None,
        suffix: str = "",
    ) -> None:
        Settings.__init__(
            self, _load, bundle=str(bundle), options=options, prefix=prefix, suffix=suffix
        )

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, Any]:
        """Compute the row of the text."""
        row = self.warm_up().encode_query(self.query(text), prompt=self.prefix)
        return {"sparse_embedding": _embedding(row)}

    @component.output_types(sparse_embedding=SparseEmbedding)
    async def run_async(self, text: str) -> dict[str, Any]:
        """Compute like `run`, without blocking the running asyncio loop."""
        row = await self.warm_up().aencode_query(self.query(text), prompt=self.prefix)
        return {"sparse_embedding": _embedding(row)}


@component
class EmbedrtSparseDocumentEmbedder(Settings[SparseEncoder]):
    """Computes the sparse embeddings of documents; returns copies of them that have theirs.

    Parameters
    ----------
    bundle, options, prefix, suffix, meta_fields_to_embed, embedding_separator
        As for `EmbedrtDocumentEmbedder`; `options` are keywords of `SparseEncoder.load`.
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
            _load,
            bundle=str(bundle),
            options=options,
            prefix=prefix,
            suffix=suffix,
            meta_fields_to_embed=meta_fields_to_embed,
            embedding_separator=embedding_separator,
        )

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Compute the rows of the documents."""
        rows = self.warm_up().encode_document(self.texts(documents), prompt=self.prefix)
        return _with_embeddings(documents, rows)

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Compute like `run`, without blocking the running asyncio loop."""
        rows = await self.warm_up().aencode_document(self.texts(documents), prompt=self.prefix)
        return _with_embeddings(documents, rows)


def _with_embeddings(documents: list[Document], rows: SparseRows) -> dict[str, Any]:
    pairs = zip(documents, rows, strict=True)
    return {"documents": [replace(one, sparse_embedding=_embedding(row)) for one, row in pairs]}


def _embedding(row: SparseRow) -> SparseEmbedding:
    return SparseEmbedding(indices=row.indices.tolist(), values=row.values.tolist())
