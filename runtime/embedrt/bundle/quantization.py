"""The records of a manifest on int8: the scheme, and the quality on held-out texts, by task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scheme = Literal["static", "row", "wide", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantized:
    """How an int8 bundle was quantized."""

    scheme: Scheme
    """How activations are scaled: ``static`` per model, ``row`` per row, ``wide`` per row in 16
    bits. ``table``: not at all; only the table of a static model is in int8."""
    rejected: tuple[str, ...]
    """Why each faster scheme was rejected."""
    texts: int
    """Number of held-out texts, or pairs of a query and a text, that the quality is measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization(_Quantized):
    """The quality of int8 embeddings against fp32."""

    mean_cosine: float
    first_percentile_cosine: float
    min_cosine: float
    rank_agreement: float
    """Mean share of a text's ten nearest neighbors that int8 and fp32 have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreQuantization(_Quantized):
    """The quality of an int8 reranker or late interaction model against fp32, by queries."""

    kendall_tau: float
    """Kendall's tau between the orders of a query's documents in int8 and in fp32; the mean."""
    top_agreement: float
    """Mean share of a query's ten best documents that int8 and fp32 have in common."""
    score_error: float
    """Root mean square difference of a score, relative to the standard deviation of the scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermQuantization(_Quantized):
    """The quality of the rows of an int8 sparse encoder against fp32."""

    mean_cosine: float
    min_cosine: float
    order_agreement: float
    """Kendall's tau between the orders of all texts by their dot product with one; the mean."""
    term_overlap: float
    """Mean share of a text's active dimensions, weighted by their values, that int8 and fp32 have
    in common."""
