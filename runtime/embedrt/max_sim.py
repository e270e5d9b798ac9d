"""MaxSim: scores of texts by the vectors of their tokens (Khattab 2020, arXiv:2004.12832).

The score of a query and a document is the sum over the query's tokens of the largest dot product
with a token of the document. The mean in place of the sum makes queries of any length comparable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
TokenVectors = Sequence[FloatArray] | FloatArray
"""The vectors of several texts, each of shape (tokens, dimension), or those of one text."""

# The score of a document without tokens, as in sentence-transformers: below all others.
EMPTY_DOCUMENT = np.float32(-1e9)
MOST_PRODUCTS = 1 << 22  # products of two tokens computed at once: 16 MB


def max_sim(queries: TokenVectors, documents: TokenVectors, *, mean: bool = False) -> FloatArray:
    """Score each query against each document, as ``maxsim`` of sentence-transformers does.

    Parameters
    ----------
    queries, documents
        As `MultiVectorEncoder.encode` returns them: an array of shape (tokens, dimension) for each
        text, or one array for a single text.
    mean
        Whether a score is the mean over the query's tokens and not the sum.

    Returns
    -------
    float32 array
        Shape: (queries, documents). A document without tokens has the score -1e9, and a query
        without tokens has 0.

    Raises
    ------
    ValueError
        The vectors differ in their number of components.
    TypeError
        The arguments are not vectors, for example texts.
    """
    asked, found = _texts(queries), _texts(documents)
    _check_dimensions(asked, found)
    scores = np.zeros((len(asked), len(found)), np.float32)
    longest = max(map(len, asked), default=0)
    for part in _parts(found, max(1, MOST_PRODUCTS // max(1, longest))):
        block = found[part]
        lengths = np.array([len(one) for one in block])
        full = np.flatnonzero(lengths)
        if len(full):
            starts = np.concatenate([[0], np.cumsum(lengths[full])[:-1]])
            tokens = np.concatenate([block[index] for index in full])
            for row, query in enumerate(asked):
                largest = np.maximum.reduceat(query @ tokens.T, starts, axis=1)
                scores[row, part.start + full] = largest.sum(axis=0)
        scores[:, part.start + np.flatnonzero(lengths == 0)] = EMPTY_DOCUMENT
    return _mean(scores, asked) if mean else scores


def max_sim_pairwise(
    queries: TokenVectors, documents: TokenVectors, *, mean: bool = False
) -> FloatArray:
    """Score each query against the document in the same place. Shape: (n,).

    Parameters and errors as in `max_sim`; ValueError also if their numbers differ.
    """
    asked, found = _texts(queries), _texts(documents)
    if len(asked) != len(found):
        raise ValueError(
            f"there are {len(asked)} queries and {len(found)} documents; expected the same number"
        )
    pairs = zip(asked, found, strict=True)
    return np.array([max_sim(one, other, mean=mean)[0, 0] for one, other in pairs], np.float32)


def _mean(scores: FloatArray, queries: Sequence[FloatArray]) -> FloatArray:
    counts = np.array([max(1, len(query)) for query in queries], np.float32)
    divided: FloatArray = scores / counts[:, None]
    return divided


def _texts(vectors: TokenVectors) -> list[FloatArray]:
    """Return a list with the vectors of each text. A matrix holds the vectors of one text."""
    one = isinstance(vectors, np.ndarray) and vectors.ndim == 2
    try:
        texts = [np.asarray(each, np.float32) for each in ([vectors] if one else vectors)]
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"these are not the vectors of texts ({error}); pass what encode returns"
        ) from error
    for index, text in enumerate(texts):
        if text.ndim != 2:
            raise ValueError(
                f"[{index}] has the shape {text.shape}; expected (tokens, dimension) for each text"
            )
    return texts


def _check_dimensions(queries: Sequence[FloatArray], documents: Sequence[FloatArray]) -> None:
    widths = sorted({text.shape[1] for text in (*queries, *documents)})
    if len(widths) > 1:
        raise ValueError(f"vectors of {widths[0]} and {widths[-1]} components cannot be compared")


def _parts(documents: Sequence[FloatArray], most: int) -> Iterator[slice]:
    """Yield slices of documents that have up to `most` tokens together, or one that has more."""
    start = 0
    ends = list(accumulate(map(len, documents)))
    for index in range(1, len(documents) + 1):
        before = ends[start - 1] if start else 0
        if index == len(documents) or ends[index] - before > most:
            yield slice(start, index)
            start = index
