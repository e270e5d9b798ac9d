"""Postprocessing of embeddings: truncation, normalization and lower precision.

The definitions are those of sentence-transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import warn_caller
from embedrt.similarity import normalize

EmbeddingPrecision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
FloatArray = NDArray[np.float32]

PRECISIONS: tuple[EmbeddingPrecision, ...] = get_args(EmbeddingPrecision)

FEW_EMBEDDINGS = 100


def check_precision(precision: str) -> None:
    """Raise ValueError unless `precision` is one of `EmbeddingPrecision`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}; expected one of {list(PRECISIONS)}")


def quantize_embeddings(
    embeddings: FloatArray,
    precision: EmbeddingPrecision,
    *,
    ranges: FloatArray | None = None,
) -> NDArray[Any]:
    """Convert embeddings to another precision.

    The result equals that of ``sentence_transformers.util.quantize_embeddings``.

    Parameters
    ----------
    embeddings
        Shape: (n, dimension), or (dimension,) for one.
    precision
        ``float32``, ``float16``: rounded. ``int8``, ``uint8``: each component is assigned to one of
        256 equal steps of its range. ``binary`` (int8), ``ubinary`` (uint8): one bit per component,
        set if the component is positive, packed into bytes; ``binary`` is ``ubinary`` minus 128.
    ranges
        Minimum and maximum of each component, for int8 and uint8. Shape: (2, dimension). By default
        computed from `embeddings`, so that the result for a text depends on the other texts of the
        call. Pass the ranges of a large sample if results of different calls are compared.

    Returns
    -------
    array
        Shape: (n, dimension), or (n, ceil(dimension / 8)) for binary and ubinary.
    """
    check_precision(precision)
    if precision in ("float32", "float16"):
        return embeddings.astype(precision)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(embeddings > 0, axis=-1)
        return bits if precision == "ubinary" else (bits - np.uint8(128)).view(np.int8)
    low, high = _ranges_of(embeddings, precision) if ranges is None else np.asarray(ranges)
    step = (high - low) / 255
    step = np.where(step == 0, 1, step)
    level = np.clip(np.floor((embeddings - low) / step), 0, 255)
    return level.astype(np.uint8) if precision == "uint8" else (level - 128).astype(np.int8)


def _ranges_of(embeddings: FloatArray, precision: str) -> tuple[FloatArray, FloatArray]:
    rows = np.atleast_2d(embeddings)
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32), np.zeros(rows.shape[1], np.float32)
    if len(rows) < FEW_EMBEDDINGS:
        warn_caller(
            f"{precision} ranges are taken from only {len(rows)} embeddings; pass "
            "quantize_embeddings(..., ranges=) those of a larger sample"
        )
    return rows.min(axis=0), rows.max(axis=0)


@dataclass(frozen=True, slots=True)
class Finish:
    """Truncates, then normalizes, then reduces precision, in the order of sentence-transformers."""

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
        """Postprocess vectors of shape (n, dimension) or (dimension,)."""
        if self.truncate_dim is not None:
            vectors = np.ascontiguousarray(vectors[..., : self.truncate_dim])
        if self.normalize:
            vectors = normalize(vectors)
        if self.precision == "float32":
            return vectors
        return quantize_embeddings(vectors, self.precision)
