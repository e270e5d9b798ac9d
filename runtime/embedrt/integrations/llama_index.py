"""LlamaIndex: a bundle as an embedding model. Needs embedrt[llama-index]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedrt.integrations.encoder import Encoder
from embedrt.integrations.extras import needs

with needs("llama_index"):
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr


class EmbedrtEmbedding(BaseEmbedding):
    """Embeds documents and queries with a bundle and the model's own prompts.

    Parameters
    ----------
    bundle
        The bundle's folder.
    fields
        ``options``: keywords of `embedrt.Embedder.load`. The others are those of BaseEmbedding;
        ``embed_batch_size`` has no upper limit here.
    """

    model_config = ConfigDict(extra="forbid")

    bundle: str
    options: dict[str, Any] = Field(default_factory=dict)
    embed_batch_size: int = Field(default=2048, gt=0)
    _encoder: Encoder = PrivateAttr()

    def __init__(self, bundle: str | Path, **fields: Any) -> None:
        super().__init__(bundle=str(bundle), **fields)
        self._encoder = Encoder.load(self.bundle, self.options)
        if "model_name" not in fields:
            self.model_name = self._encoder.embedder.manifest.name

    @classmethod
    def class_name(cls) -> str:
        """Return the name that a saved index has for this class."""
        return "EmbedrtEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._encoder.queries([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._encoder.aqueries([query]))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._encoder.documents([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._encoder.adocuments([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encoder.documents(texts)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._encoder.adocuments(texts)
