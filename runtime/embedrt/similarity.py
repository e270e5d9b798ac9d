"""Similarity scores of embeddings, and semantic search. Larger scores mean more similar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedrt.arguments import check_choice, check_count
from embedrt.bundle.manifest import Similarity

FloatArray = NDArray[np.float32]
ROWS_PER_STEP = 256
NORM_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search."""

    index: int
    """Row of the document."""
    score: float


def similarity(a: ArrayLike, b: ArrayLike, name: Similarity) -> FloatArray:
    """Score every row of `a` against every row of `b`.

    Formulas: ``cosine`` a.b / (|a| |b|); ``dot`` a.b; ``euclidean`` -|a - b|; ``manhattan``
    -sum |a - b|; as in ``sentence_transformers.util``.

    Shape: (n, dimension) and (m, dimension) to (n, m); a single vector is treated as one row.
    """
    score = _score(name)
    rows_a, rows_b = _comparable(a, b)
    return score(rows_a, rows_b)


def similarity_pairwise(a: ArrayLike, b: ArrayLike, name: Similarity) -> FloatArray:
    """Score each row of `a` against the same row of `b`.

    Shape: (n, dimension) twice to (n,). Formulas as in `similarity`.
    """
    _score(name)
    rows_a, rows_b = _comparable(a, b)
    if len(rows_a) != len(rows_b):
        raise ValueError(f"a has {len(rows_a)} rows and b {len(rows_b)}; expected the same number")
    if name == "cosine":
        rows_a, rows_b = normalize(rows_a), normalize(rows_b)
    if name in ("cosine", "dot"):
        scores = np.sum(rows_a * rows_b, axis=1)
    elif name == "euclidean":
        scores = -np.sqrt(np.sum((rows_a - rows_b) ** 2, axis=1))
    else:
        scores = -np.sum(np.abs(rows_a - rows_b), axis=1)
    result: FloatArray = scores
    return result


def semantic_search(
    queries: ArrayLike,
    documents: ArrayLike,
    *,
    top_k: int = 10,
    similarity_fn_name: Similarity = "cosine",
) -> list[list[Hit]]:
    """Find the documents most similar to each query, by exhaustive comparison.

    Parameters
    ----------
    queries, documents
        Embeddings. Shape: (n, dimension) and (m, dimension).
    top_k
        Number of hits per query; fewer if there are fewer documents.
    similarity_fn_name
        The score to rank by, usually an embedder's ``manifest.similarity``.

    Returns
    -------
    list of lists of Hit
        The hits of each query, best first; equal scores in order of index. Shape:
        (n, min(top_k, m)).

    Raises
    ------
    TypeError
        `queries` or `documents` are not arrays of numbers.
    ValueError
        A shape, `top_k` or the name of the score is invalid, or the dimensions differ.
    """
    check_count("top_k", top_k, 1)
    _score(similarity_fn_name)
    rows, corpus = _rows(queries), _rows(documents)
    hits: list[list[Hit]] = []
    for start in range(0, len(rows), ROWS_PER_STEP):
        scores = similarity(rows[start : start + ROWS_PER_STEP], corpus, similarity_fn_name)
        hits += [_best(row, top_k) for row in scores]
    return hits


def normalize(embeddings: FloatArray) -> FloatArray:
    """Scale each row to length 1, as ``torch.nn.functional.normalize`` does: x / max(|x|, 1e-12).

    The result of a row is bitwise independent of the other rows.
    """
    lengths = np.sqrt(np.sum(embeddings * embeddings, axis=-1, keepdims=True))
    normalized: FloatArray = embeddings / np.maximum(lengths, np.float32(NORM_EPSILON))
    return normalized


def _best(scores: FloatArray, top_k: int) -> list[Hit]:
    worst_first = np.where(np.isnan(scores), -np.inf, scores)
    if top_k < len(scores):
        # Keeps all candidates that tie with the k-th, whose order after partition is arbitrary, so
        # that the lowest index wins.
        threshold = np.partition(worst_first, -top_k)[-top_k]
        candidates = np.flatnonzero(worst_first >= threshold)
    else:
        candidates = np.arange(len(scores))
    order = candidates[np.argsort(-scores[candidates], kind="stable")][:top_k]
    return [Hit(int(index), float(scores[index])) for index in order]


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    return normalize(a) @ normalize(b).T


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return a @ b.T


def _euclidean(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.stack([-np.sqrt(np.sum((b - row) ** 2, axis=1)) for row in a]) if len(a) else _none(b)


def _manhattan(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.stack([-np.sum(np.abs(b - row), axis=1) for row in a]) if len(a) else _none(b)


def _none(b: FloatArray) -> FloatArray:
    return np.empty((0, len(b)), np.float32)


SCORES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}


def _score(name: str) -> Callable[[FloatArray, FloatArray], FloatArray]:
    check_choice("similarity", name, SCORES)
    return SCORES[name]


def _rows(embeddings: ArrayLike) -> FloatArray:
    """Return a row for each embedding. An empty list has no rows, of any number of components."""
    try:
        rows = np.asarray(embeddings, np.float32)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"these are not embeddings ({error}); pass the array that encode returns"
        ) from error
    if not rows.ndim:
        raise TypeError(f"{embeddings!r} is not an array of embeddings; pass what encode returns")
    if rows.ndim == 1:
        rows = rows[None] if rows.size else rows.reshape(0, 0)
    if rows.ndim != 2:
        raise ValueError(f"embeddings of shape {rows.shape}; expected (n, dimension)")
    return rows


def _comparable(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    rows_a, rows_b = _rows(a), _rows(b)
    width_a, width_b = (rows.shape[1] for rows in (rows_a, rows_b))
    if rows_a.shape == (0, 0):
        return rows_a.reshape(0, width_b), rows_b
    if rows_b.shape == (0, 0):
        return rows_a, rows_b.reshape(0, width_a)
    if width_a != width_b:
        raise ValueError(f"embeddings of {width_a} and {width_b} components cannot be compared")
    return rows_a, rows_b
