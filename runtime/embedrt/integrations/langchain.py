"""LangChain: a bundle as an ``Embeddings`` model. Needs embedrt[langchain]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedrt.embedder import Embedder
from embedrt.integrations.encoder import Encoder
from embedrt.integrations.extras import needs

with needs("langchain"):
    from langchain_core.embeddings import Embeddings


class EmbedrtEmbeddings(Embeddings):
    """Embeds documents and queries with a bundle and the model's own prompts.

    Parameters
    ----------
    bundle
        The bundle's folder, or a loaded Embedder.
    options
        Keywords of `embedrt.Embedder.load`: ``threads``, ``cache_mb``, ...
    """

    def __init__(self, bundle: str | Path | Embedder, **options: Any) -> None:
        self._encoder = Encoder.load(bundle, options)

    @property
    def embedder(self) -> Embedder:
        """The loaded bundle."""
        return self._encoder.embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents. Shape: (n, dimension)."""
        return self._encoder.documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """Embed one query. Shape: (dimension,)."""
        return self._encoder.queries([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents without blocking the running asyncio loop. Shape: (n, dimension)."""
        return await self._encoder.adocuments(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Embed one query without blocking the running asyncio loop. Shape: (dimension,)."""
        return (await self._encoder.aqueries([text]))[0]
