"""Quality of int8 embeddings, measured against fp32 embeddings of the same model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import QuantizationError
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.conditions import require_finite, require_shape

RANKED = 10
TINY = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Agreement of two sets of embeddings. The defaults are the minimum for int8."""

    mean_cosine: float = 0.998
    first_percentile_cosine: float = 0.994
    min_cosine: float = 0.985
    rank_agreement: float = 0.9
    """Mean share of a text's ten nearest neighbors that both sets have in common."""

    def shortfalls(self, least: Quality) -> list[str]:
        """Return a description of each figure that is below `least`."""
        return below(self, least)

    def __str__(self) -> str:
        return f"mean cosine to fp32 {self.mean_cosine:.4f}, smallest {self.min_cosine:.4f}"


def below(found: Any, least: Any) -> list[str]:
    """Return a description of each figure of a dataclass that is below that of `least`."""
    return [
        f"{field.name} {figure:.5f} is {wanted - figure:.1e} below {wanted}"
        for field in fields(least)
        # Negated, so that NaN counts as a shortfall.
        if not (figure := getattr(found, field.name)) >= (wanted := getattr(least, field.name))
    ]


def measure_quality(found: FloatArray, expected: FloatArray) -> Quality:
    """Compare int8 with fp32 embeddings. Shape of both: (n, dimension), n >= 2.

    Raises QuantizationError if the two cannot be compared.
    """
    if len(expected) < 2:
        raise QuantizationError(f"quality: {len(expected)} texts are too few to judge int8 by")
    require_shape("quality: embeddings in int8", found, expected.shape)
    require_finite("quality: embeddings in fp32", expected)
    shared = [
        len(set(x) & set(y)) / len(x)
        for x, y in zip(_nearest(found), _nearest(expected), strict=True)
    ]
    cosines = row_cosines(found, expected)
    return Quality(
        mean_cosine=float(cosines.mean()),
        first_percentile_cosine=float(np.percentile(cosines, 1)),
        min_cosine=float(cosines.min()),
        rank_agreement=float(np.mean(shared)),
    )


def row_cosines(a: FloatArray, b: FloatArray) -> NDArray[np.float64]:
    """Return the cosine of each row of `a` with the same row of `b`.

    The cosine of two zero vectors is 1, that of a zero vector with any other vector is 0.
    """
    both_empty = ~a.any(axis=1) & ~b.any(axis=1)
    return np.where(both_empty, 1.0, np.sum(_unit(a) * _unit(b), axis=1))


def _nearest(vectors: FloatArray) -> list[list[int]]:
    unit = _unit(vectors)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -np.inf)
    count = min(RANKED, len(vectors) - 1)
    return [list(row[:count]) for row in np.argsort(-scores, axis=1, kind="stable")]


def _unit(vectors: FloatArray) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), TINY)
    return unit
