"""LanceDB: a bundle as an embedding function of a table. Needs embedrt[lancedb].

Importing this module registers the function: import it before opening a table that uses it. Create
the function with ``EmbedrtFunction.create(bundle=...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedrt.integrations.encoder import Encoder
from embedrt.integrations.extras import needs

with needs("lancedb"):
    from lancedb.embeddings import TextEmbeddingFunction, register
    from pydantic import ConfigDict, PrivateAttr

Rows = list[NDArray[np.float32] | None]


@register("embedrt")
class EmbedrtFunction(TextEmbeddingFunction):
    """Embeds the texts of a column, and queries, with a bundle and the model's own prompts."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """The bundle's folder."""
    threads: int | None = None
    overlong: str = "truncate"
    cache_mb: float = 0
    max_waiting_tokens: int | None = None
    mapped: bool = True
    kernels: str | None = None
    verify: str = "size"
    """This and the ones before: see `embedrt.Embedder.load`."""
    max_retries: int = 0
    """No retries, because they would give the same result."""
    _encoder: Encoder = PrivateAttr()

    @classmethod
    def create(cls, *, bundle: str | Path, **fields: Any) -> Self:
        """Create a function, whose arguments a table stores."""
        created: Self = super().create(bundle=str(bundle), **fields)
        return created

    def model_post_init(self, context: Any) -> None:
        """Load the bundle."""
        super().model_post_init(context)
        self._encoder = Encoder.load(
            self.bundle, self.model_dump(exclude={"bundle", "max_retries"})
        )

    def ndims(self) -> int:
        """Return the number of components of an embedding."""
        return self._encoder.embedder.dimension

    def generate_embeddings(self, texts: Sequence[str | None], *_: Any, **__: Any) -> Rows:
        """Embed documents; a missing text has no embedding. Shape: (dimension,) each."""
        present = [text for text in texts if text is not None]
        vectors = iter(self._encoder.embedder.encode_document(present))
        return [None if text is None else next(vectors) for text in texts]

    def compute_query_embeddings(self, query: str, *_: Any, **__: Any) -> list[NDArray[np.float32]]:
        """Embed one query. Shape: (dimension,), in a list."""
        return list(self._encoder.embedder.encode_query(self.sanitize_input(query)))
