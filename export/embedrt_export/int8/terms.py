"""Quality of int8 sparse rows, measured against fp32 rows of the same model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedrt.errors import QuantizationError
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.conditions import require_finite, require_shape
from embedrt_export.int8.order import kendall_tau
from embedrt_export.int8.quality import TINY, below, row_cosines


@dataclass(frozen=True, slots=True, kw_only=True)
class TermQuality:
    """Agreement of two sets of sparse rows. The defaults are the minimum for int8."""

    mean_cosine: float = 0.99
    min_cosine: float = 0.96
    order_agreement: float = 0.9
    """Kendall's tau between the orders of all texts by their dot product with one; the mean."""
    term_overlap: float = 0.9
    """Mean share of a text's active dimensions, weighted by their values, that both sets have."""

    def shortfalls(self, least: TermQuality) -> list[str]:
        """Return a description of each figure that is below `least`."""
        return below(self, least)

    def __str__(self) -> str:
        return (
            f"mean cosine to fp32 {self.mean_cosine:.4f}, order of dot products "
            f"{self.order_agreement:.3f}, terms in common {self.term_overlap:.3f}"
        )


def measure_terms(found: FloatArray, expected: FloatArray) -> TermQuality:
    """Compare int8 with fp32 rows. Shape of both: (n, vocabulary), n >= 3.

    Raises QuantizationError if the two cannot be compared.
    """
    if len(expected) < 3:
        raise QuantizationError(f"quality: {len(expected)} texts are too few to judge int8 by")
    require_shape("quality: rows in int8", found, expected.shape)
    require_finite("quality: rows in fp32", expected)
    cosines = row_cosines(found, expected)
    products = [rows @ rows.T for rows in (found, expected)]
    others = ~np.eye(len(expected), dtype=bool)
    orders = [kendall_tau(a[row], b[row]) for a, b, row in zip(*products, others, strict=True)]
    return TermQuality(
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        order_agreement=float(np.mean(orders)),
        term_overlap=_overlap(found, expected),
    )


def _overlap(found: FloatArray, expected: FloatArray) -> float:
    """Return the mean share of the values of both that stand in dimensions active in both."""
    both = (found > 0) & (expected > 0)
    total = found + expected
    shares = np.where(both, total, 0).sum(axis=1) / np.maximum(total.sum(axis=1), TINY)
    return float(np.where(total.any(axis=1), shares, 1.0).mean())
