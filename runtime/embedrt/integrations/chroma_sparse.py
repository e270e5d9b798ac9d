"""Chroma: a sparse encoder as a sparse embedding function. Needs embedrt[chroma].

Importing this module registers the function: import it before opening a collection that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedrt.integrations.encoder import load_shared, several
from embedrt.integrations.extras import needs
from embedrt.sparse import SparseEncoder
from embedrt.sparse_rows import SparseRows

with needs("chroma"):
    from chromadb.api.types import Documents, SparseEmbeddingFunction, SparseVector, SparseVectors
    from chromadb.utils.embedding_functions import register_sparse_embedding_function


@register_sparse_embedding_function
class EmbedrtSparseEmbeddingFunction(SparseEmbeddingFunction[Documents]):
    """Computes sparse vectors of documents and queries with the model's own prompts.

    A collection stores the parameters, and the path of the bundle as it is given here.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `SparseEncoder.load`.
    """

    def __init__(self, bundle: str | Path, **options: Any) -> None:
        self._config = {"bundle": str(bundle), "options": options}
        self._encoder = load_shared(SparseEncoder, bundle, options)

    def __call__(self, input: Documents) -> SparseVectors:  # noqa: A002  # compared by name
        """Compute the vectors of documents."""
        return _vectors(self._encoder.encode_document(several(input)))

    def embed_query(self, input: Documents) -> SparseVectors:  # noqa: A002
        """Compute the vectors of queries."""
        return _vectors(self._encoder.encode_query(several(input)))

    @staticmethod
    def name() -> str:
        """Return the name that a collection stores."""
        return "embedrt_sparse"

    def get_config(self) -> dict[str, Any]:
        """Return the parameters that a collection stores."""
        return self._config

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbedrtSparseEmbeddingFunction:
        """Return the function of a reopened collection."""
        return EmbedrtSparseEmbeddingFunction(config["bundle"], **config["options"])


def _vectors(rows: SparseRows) -> SparseVectors:
    return [SparseVector(indices=row.indices.tolist(), values=row.values.tolist()) for row in rows]
