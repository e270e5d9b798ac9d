"""Postprocessing of embeddings: truncation, normalization and lower precision.

The definitions are those of sentence-transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt.arguments import check_choice, check_count
from embedrt.errors import warn_caller
from embedrt.similarity import normalize

EmbeddingPrecision = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
FloatArray = NDArray[np.float32]

PRECISIONS: tuple[EmbeddingPrecision, ...] = get_args(EmbeddingPrecision)

FEW_EMBEDDINGS = 100


def check_precision(precision: str) -> None:
    """Raise ValueError unless `precision` is one of `EmbeddingPrecision`."""
    check_choice("precision", precision, PRECISIONS)


def quantize_embeddings(
    embeddings: ArrayLike,
    precision: EmbeddingPrecision,
    *,
    ranges: ArrayLike | None = None,
) -> NDArray[Any]:
    """Convert embeddings to another precision.

    The result equals that of ``sentence_transformers.util.quantize_embeddings``.

    Parameters
    ----------
    embeddings
        Not yet quantized. Shape: (n, dimension), or (dimension,) for one.
    precision
        ``float32``, ``float16``: rounded. ``int8``, ``uint8``: each component is assigned to one of
        256 equal steps of its range. ``binary`` (int8), ``ubinary`` (uint8): one bit per component,
        set if the component is positive, packed into bytes; ``binary`` is ``ubinary`` minus 128.
    ranges
        Minimum and maximum of each component, for int8 and uint8. Shape: (2, dimension). By default
        computed from `embeddings`, so that the result for a text depends on the other texts of the
        call. Pass the ranges of a large sample if results of different calls are compared. One
        embedding has no ranges.

    Returns
    -------
    array
        Shape: (n, dimension), or (n, ceil(dimension / 8)) for binary and ubinary.

    Raises
    ------
    TypeError
        The embeddings are not numbers, or are quantized already.
    ValueError
        The precision is unknown, a shape is wrong, or the ranges would come from one embedding.
    """
    check_precision(precision)
    embeddings = _floats(embeddings)
    if precision in ("float32", "float16"):
        return embeddings.astype(precision)
    if precision in ("binary", "ubinary"):
        bits = np.packbits(embeddings > 0, axis=-1)
        return bits if precision == "ubinary" else (bits - np.uint8(128)).view(np.int8)
    low, high = (
        _ranges_of(embeddings, precision)
        if ranges is None
        else _given_ranges(ranges, embeddings.shape[-1])
    )
    step = (high - low) / 255
    step = np.where(step == 0, 1, step)
    level = np.clip(np.floor((embeddings - low) / step), 0, 255)
    return level.astype(np.uint8) if precision == "uint8" else (level - 128).astype(np.int8)


def _floats(embeddings: ArrayLike) -> FloatArray:
    found = np.asarray(embeddings)
    if found.dtype.kind not in "fiu" or found.dtype.itemsize == 1:
        raise TypeError(f"embeddings are {found.dtype}; expected floats, as encode returns them")
    if found.ndim not in (1, 2):
        raise ValueError(f"embeddings of shape {found.shape}; expected (n, dimension)")
    return found


def _given_ranges(ranges: ArrayLike, dimension: int) -> tuple[FloatArray, FloatArray]:
    found = np.asarray(ranges, np.float32)
    if found.shape != (2, dimension):
        raise ValueError(f"ranges of shape {found.shape}; expected {(2, dimension)}")
    if not np.isfinite(found).all():
        raise ValueError("not all ranges are finite; expected each component's minimum and maximum")
    return found[0], found[1]


def _ranges_of(embeddings: FloatArray, precision: str) -> tuple[FloatArray, FloatArray]:
    rows = np.atleast_2d(embeddings)
    if not len(rows):
        return np.zeros(rows.shape[1], np.float32), np.zeros(rows.shape[1], np.float32)
    if len(rows) == 1:
        raise ValueError(
            f"one embedding has no ranges for {precision}; pass quantize_embeddings(..., ranges=) "
            "those of a sample"
        )
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
        check_count("truncate_dim", self.truncate_dim, 1, "or None", most=self.dimension)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Postprocess vectors of shape (n, dimension) or (dimension,)."""
        if self.truncate_dim is not None:
            vectors = np.ascontiguousarray(vectors[..., : self.truncate_dim])
        if self.normalize:
            vectors = normalize(vectors)
        if self.precision == "float32":
            return vectors
        return quantize_embeddings(vectors, self.precision)
