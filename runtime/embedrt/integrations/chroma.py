"""Chroma: a bundle as an embedding function that collections store. Needs embedrt[chroma].

Importing this module registers the function: import it before opening a collection that uses it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import Similarity
from embedrt.errors import warn_caller
from embedrt.integrations.encoder import Encoder, several
from embedrt.integrations.extras import needs

with needs("chroma"):
    from chromadb.api.types import Documents, EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function

SPACES: dict[Similarity, str] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}


@register_embedding_function
class EmbedrtEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embeds documents and queries with a bundle and the model's own prompts.

    A collection stores the parameters, and the path of the bundle as it is given here.

    Parameters
    ----------
    bundle
        The bundle's folder.
    options
        Keywords of `embedrt.Embedder.load`.
    """

    def __init__(self, bundle: str | Path, **options: Any) -> None:
        self._config = {"bundle": str(bundle), "options": options}
        self._encoder = Encoder.load(bundle, options)

    def __call__(self, input: Documents) -> list[NDArray[np.float32]]:  # noqa: A002  # compared by name
        """Embed documents. Shape: (dimension,) each."""
        return list(self._encoder.embedder.encode_document(several(input)))

    def embed_query(self, input: Documents) -> list[NDArray[np.float32]]:  # noqa: A002
        """Embed queries. Shape: (dimension,) each."""
        return list(self._encoder.embedder.encode_query(several(input)))

    @staticmethod
    def name() -> str:
        """Return the name that a collection stores."""
        return "embedrt"

    def get_config(self) -> dict[str, Any]:
        """Return the parameters that a collection stores."""
        return self._config

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbedrtEmbeddingFunction:
        """Return the function of a reopened collection."""
        return EmbedrtEmbeddingFunction(config["bundle"], **config["options"])

    def default_space(self) -> str:
        """Return the distance that ranks as the model's own score does.

        Chroma has no ``manhattan``; a collection of such a model gets ``l2``, with a warning.
        """
        score = self._encoder.embedder.similarity_fn_name
        if score not in SPACES:  # an error would be caught, and the function not stored
            warn_caller(f"Chroma has no distance for this model's score, {score}; taking l2")
        return SPACES.get(score, "l2")
