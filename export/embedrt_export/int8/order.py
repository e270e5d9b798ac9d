"""Quality of int8 scores, measured by the order of each query's documents in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import QuantizationError
from embedrt.max_sim import max_sim
from embedrt_export.encoder import FloatArray
from embedrt_export.int8.conditions import require_finite, require_shape
from embedrt_export.int8.quality import RANKED, TINY, below


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderQuality:
    """Agreement of two sets of scores. The defaults are the limits for int8."""

    kendall_tau: float = 0.85
    """Mean over the queries, of the first label."""
    top_agreement: float = 0.85
    """Mean share of a query's ten best documents that both sets have in common."""
    score_error: float = 0.25
    """Root mean square difference of a score, relative to the scores' standard deviation."""

    def shortfalls(self, least: OrderQuality) -> list[str]:
        """Return a description of each figure that is worse than `least`."""
        reasons = [reason for reason in below(self, least) if not reason.startswith("score_error")]
        if not self.score_error <= least.score_error:
            excess = self.score_error - least.score_error
            reasons.append(
                f"score_error {self.score_error:.5f} is {excess:.1e} above {least.score_error}"
            )
        return reasons

    def __str__(self) -> str:
        return (
            f"Kendall's tau to fp32 {self.kendall_tau:.3f}, top ten in common "
            f"{self.top_agreement:.2f}, score error {self.score_error:.3f}"
        )


def measure_order(found: FloatArray, expected: FloatArray, *, documents: int) -> OrderQuality:
    """Compare int8 with fp32 scores of queries with `documents` documents each.

    Shape of both: (queries * documents, labels). Raises QuantizationError if the two cannot be
    compared.
    """
    require_shape("quality: scores in int8", found, expected.shape)
    require_finite("quality: scores in fp32", expected)
    if documents < 2 or not len(expected):
        raise QuantizationError(f"quality: {documents} documents a query are too few to judge int8")
    by_query = [scores[:, 0].reshape(-1, documents) for scores in (found, expected)]
    rows = list(zip(*by_query, strict=True))
    spread = max(float(expected.std()), TINY)
    return OrderQuality(
        kendall_tau=float(np.mean([kendall_tau(a, b) for a, b in rows])),
        top_agreement=float(np.mean([_share(_best(a), _best(b)) for a, b in rows])),
        score_error=float(np.sqrt(np.mean(np.square(found - expected, dtype=np.float64))) / spread),
    )


def measure_max_sim(
    found: FloatArray, expected: FloatArray, *, tokens: Sequence[int], queries: int
) -> OrderQuality:
    """Compare the order of documents by MaxSim with vectors of tokens in int8 and in fp32.

    Shape of both: (all tokens, dimension). `tokens` are the token counts of the texts; the first
    texts are the `queries`, and the others documents. Raises QuantizationError as `measure_order`.
    """
    require_shape("quality: vectors in int8", found, expected.shape)
    ends = np.cumsum(tokens)[:-1]
    texts = [np.split(vectors, ends) for vectors in (found, expected)]
    scores = [max_sim(each[:queries], each[queries:]) for each in texts]
    documents = len(tokens) - queries
    return measure_order(*(each.reshape(-1, 1) for each in scores), documents=documents)


def kendall_tau(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return Kendall's tau-a of two lists of scores: 1 for the same order, -1 for the reverse."""
    above = np.triu_indices(len(a), 1)
    signs = [np.sign(np.subtract.outer(x, x)[above]) for x in (a, b)]
    return float(np.mean(signs[0] * signs[1]))


def _best(scores: NDArray[np.float32]) -> set[int]:
    return set(np.argsort(-scores, kind="stable")[:RANKED].tolist())


def _share(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a)
