"""What is done to the graph's vectors before the caller gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.precision import EmbeddingPrecision, check_precision, quantize_embeddings
from embedrt.similarity import normalize


@dataclass(frozen=True, slots=True)
class Finish:
    """Truncate, then normalize, then lower the precision: the order of sentence-transformers."""

    dimension: int
    truncate_dim: int | None
    normalize: bool
    precision: EmbeddingPrecision

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.truncate_dim is not None and not 1 <= self.truncate_dim <= self.dimension:
            raise ValueError(
                f"truncate_dim={self.truncate_dim}; expected 1 to {self.dimension}, or None"
            )

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Shape: (n, dimension) or (dimension,), to what the caller asked for."""
        if self.truncate_dim is not None:
            vectors = np.ascontiguousarray(vectors[..., : self.truncate_dim])
        if self.normalize:
            vectors = normalize(vectors)
        if self.precision == "float32":
            return vectors
        return quantize_embeddings(vectors, self.precision)
