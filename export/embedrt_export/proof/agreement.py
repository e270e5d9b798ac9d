"""Checks whether a bundle agrees with the original model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embedrt import Embedder
from embedrt.bundle.manifest import Agreement, Precision
from embedrt.sparse import SparseEncoder
from embedrt_export.proof.comparison import MIN_COSINE, Comparison, compare, tolerance_of
from embedrt_export.proof.disagreement import disagreement
from embedrt_export.proof.explanation import explain
from embedrt_export.proof.reference import Reference
from embedrt_export.proof.sparse_oracle import DenseRows, SparseOracle


def prove(embedder: Embedder, oracle: Reference) -> Agreement:
    """Compare a bundle with the original; raise ProofError with the differences if too large."""
    precision = embedder.manifest.precision
    comparisons = compare(embedder, oracle)
    agreement = summarize(comparisons, oracle.name, tolerance_of(embedder.manifest))
    require_agreement(agreement, precision, lambda: explain(comparisons, embedder, oracle))
    return agreement


def prove_rows(encoder: SparseEncoder, oracle: SparseOracle) -> Agreement:
    """Compare a bundle of a sparse encoder with the original, all weights of each text.

    Raises ProofError with the differences if too large.
    """
    dense: Any = DenseRows(encoder)
    return prove(dense, oracle)


def summarize(comparisons: Sequence[Comparison], reference: str, tolerance: float) -> Agreement:
    """Return the agreement that the manifest records."""
    return Agreement(
        reference=reference,
        texts=len(comparisons),
        max_difference=float(np.max([one.difference for one in comparisons])),
        tolerance=tolerance,
        min_cosine=float(np.min([one.cosine for one in comparisons])),
        same_bytes=all(one.same_bytes for one in comparisons),
    )


def require_agreement(
    agreement: Agreement,
    precision: Precision = "fp32",
    explain: Callable[[], Sequence[str]] = tuple,
    *,
    least: Mapping[Precision, float] = MIN_COSINE,
) -> None:
    """Raise ProofError with the figures and the result of `explain` unless the bundle agrees.

    `least` is the smallest cosine that agrees, by precision.
    """
    reasons = []
    min_cosine = least[precision]
    # Negated, so that NaN fails.
    if not agreement.max_difference <= agreement.tolerance:
        reasons.append(
            f"a component differs by {agreement.max_difference:.2e}; "
            f"at most {agreement.tolerance:g} is allowed"
        )
    if not agreement.min_cosine >= min_cosine:
        reasons.append(f"a cosine is {agreement.min_cosine:.7f}; at least {min_cosine} is required")
    if not agreement.same_bytes:
        reasons.append("a text gives different bytes in a batch than alone")
    if reasons:
        compared = f"{agreement.reference} on {agreement.texts} texts"
        raise disagreement(compared, "; ".join((*reasons, *explain())))
