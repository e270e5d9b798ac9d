"""Scores of vectors (cosine, rank correlation, retrieval), and a plausibility check of vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from benchmarks.harness.catalog import ContenderError
from benchmarks.harness.texts import read_pairs, sentences

FloatArray = NDArray[np.float32]

# Below these, a contender's vectors are wrong. The least exact contender, NNCF's int8, has a mean
# cosine of 0.97 and a smallest cosine of 0.6 and passes. Exchanged texts or the wrong pooling do
# not.
LOWEST_MEAN_COSINE = 0.95
LOWEST_COSINE = 0.5
LENGTH_TOLERANCE = 0.01  # deviation from length 1 that bf16 needs


def check_answer(vectors: FloatArray, reference: FloatArray) -> None:
    """Raise ContenderError unless the vectors agree with the reference as well as int8 can."""
    wrong = "answered wrongly:"
    if vectors.shape != reference.shape:
        raise ContenderError(f"{wrong} vectors of shape {vectors.shape}, not {reference.shape}")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    off = np.abs(lengths - 1)
    if not np.all(off <= LENGTH_TOLERANCE):  # true for NaN, too
        raise ContenderError(f"{wrong} a vector has length {lengths[np.argmax(off)]:.3f}")
    found = cosines(vectors, reference)
    mean, least = found.mean(), found.min()
    if mean < LOWEST_MEAN_COSINE or least < LOWEST_COSINE:
        scores = f"{mean:.4f} in the mean, {least:.4f} at the least"
        raise ContenderError(f"{wrong} cosine to the fp32 reference {scores}")


def cosines(first: FloatArray, second: FloatArray) -> NDArray[np.float64]:
    """Return the cosine of each row with the other's same row. Shape: (n, dimension) to (n,)."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: NDArray[np.float64] = np.sum(a * b, axis=1) / lengths
    return found


def describe_cosines(first: FloatArray, second: FloatArray) -> dict[str, float]:
    """Return the mean, the first percentile and the smallest of the rows' cosines."""
    found = cosines(first, second)
    return {
        "mean": float(found.mean()),
        "first percentile": float(np.percentile(found, 1)),
        "smallest": float(found.min()),
    }


def sts_spearman(vectors: FloatArray) -> float:
    """Return 100 times the rank correlation of cosines with the scores of the STS benchmark.

    `vectors` are those of `sentences()`.
    """
    rows = {text: row for row, text in enumerate(sentences())}
    first, second, scores = zip(*read_pairs(), strict=True)
    found = cosines(
        vectors[[rows[text] for text in first]], vectors[[rows[text] for text in second]]
    )
    return 100 * spearman(list(found), scores)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the rank correlation. Equal values share their mean rank."""
    return float(spearmanr(first, second).statistic)


def ndcg(
    queries: FloatArray,
    documents: FloatArray,
    judgments: Sequence[Mapping[int, int]],
    *,
    depth: int = 10,
) -> float:
    """Return the mean normalized discounted cumulative gain of the `depth` nearest documents.

    Vectors have length 1. Shape: (queries, dimension) and (documents, dimension). `judgments` has,
    for each query, the relevance of its relevant documents by their row.
    """
    scores = queries @ documents.T  # (queries, documents)
    relevance = np.zeros(scores.shape)
    for row, judged in zip(relevance, judgments, strict=True):
        row[list(judged)] = list(judged.values())
    return float(ndcg_score(relevance, scores, k=depth, ignore_ties=True))


def share_of_equal_rows(first: FloatArray, second: FloatArray) -> float:
    """Return the share of rows that are equal byte for byte."""
    same = [a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True)]
    return float(np.mean(same))
