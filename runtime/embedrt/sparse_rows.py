"""Sparse rows in CSR form, and scores of them, without scipy."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedrt.arguments import check_choice
from embedrt.bundle.manifest import Similarity

FloatArray = NDArray[np.float32]
Doubles = NDArray[np.float64]
Terms = NDArray[Any]
"""The active terms of one text by index. Shape: (active,), dtype: `TERM`."""

TERM = np.dtype([("index", np.int32), ("value", np.float32)])
NO_TERMS: Terms = np.empty(0, TERM)
TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SparseRow:
    """The active dimensions of one text, in ascending order."""

    indices: NDArray[np.int32]
    """Shape: (active,)."""
    values: FloatArray
    """Shape: (active,)."""
    dimension: int
    """Size of the vocabulary."""

    def __len__(self) -> int:
        return len(self.indices)

    def to_dense(self) -> FloatArray:
        """Return the row with its zeros. Shape: (dimension,)."""
        dense = np.zeros(self.dimension, np.float32)
        dense[self.indices] = self.values
        return dense


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SparseRows:
    """One row per text, in CSR form: row i has the elements ``indptr[i]`` to ``indptr[i + 1]``."""

    indices: NDArray[np.int32]
    """The active dimensions of all rows, ascending in each. Shape: (active,)."""
    values: FloatArray
    """Shape: (active,)."""
    indptr: NDArray[np.int64]
    """Shape: (rows + 1,)."""
    shape: tuple[int, int]
    """Rows and dimensions."""

    @classmethod
    def of(cls, rows: Sequence[Terms], dimension: int) -> Self:
        """Return the rows of several texts."""
        terms = np.concatenate([NO_TERMS, *rows])
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=indptr[1:])
        return cls(
            indices=terms["index"].copy(),
            values=terms["value"].copy(),
            indptr=indptr,
            shape=(len(rows), dimension),
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> SparseRow:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        start, stop = self.indptr[index % len(self) :][:2]
        return SparseRow(
            indices=self.indices[start:stop],
            values=self.values[start:stop],
            dimension=self.shape[1],
        )

    def __iter__(self) -> Iterator[SparseRow]:
        return (self[index] for index in range(len(self)))

    def to_dense(self) -> FloatArray:
        """Return the rows with their zeros. Shape: (rows, dimension)."""
        dense = np.zeros(self.shape, np.float32)
        dense[self.row_numbers(), self.indices] = self.values
        return dense

    def to_scipy(self) -> Any:
        """Return the rows as a ``scipy.sparse.csr_array``, which shares their memory.

        Raises ImportError if scipy is not installed.
        """
        from scipy.sparse import csr_array  # noqa: PLC0415  # optional

        return csr_array((self.values, self.indices, self.indptr), shape=self.shape)

    def row_numbers(self) -> NDArray[np.int64]:
        """Return the row of each active dimension. Shape: (active,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))


def terms_of(weights: FloatArray) -> list[Terms]:
    """Return the active terms of each row. Shape: (batch, dimension) to (batch,)."""
    return [_terms(row) for row in weights]


def _terms(weights: FloatArray) -> Terms:
    active = np.flatnonzero(weights)
    terms = np.empty(len(active), TERM)
    terms["index"], terms["value"] = active, weights[active]
    return terms


def largest(terms: Terms, most: int) -> Terms:
    """Return the `most` terms of the largest magnitude; of equal ones, those that come first."""
    if len(terms) <= most:
        return terms
    order = np.argsort(-np.abs(terms["value"]), kind="stable")
    kept: Terms = terms[np.sort(order[:most])]
    return kept


def as_rows(rows: object) -> SparseRows:
    """Return a single row as rows; raise TypeError for anything else."""
    if isinstance(rows, SparseRows):
        return rows
    if not isinstance(rows, SparseRow):
        kind = type(rows).__name__
        raise TypeError(f"expected SparseRows or a SparseRow, as encode returns them; got {kind}")
    indptr = np.array([0, len(rows)], np.int64)
    return SparseRows(
        indices=rows.indices, values=rows.values, indptr=indptr, shape=(1, rows.dimension)
    )


def similarity(
    a: SparseRows | SparseRow, b: SparseRows | SparseRow, name: Similarity
) -> FloatArray:
    """Score every row of `a` against every row of `b`, as `embedrt.similarity.similarity` does.

    Shape: (n, dimension) and (m, dimension) to (n, m).
    """
    rows_a, rows_b = _comparable(a, b, name)
    owners, scores = rows_b.row_numbers(), np.empty((len(rows_a), len(rows_b)), np.float32)
    lengths = _sums(rows_b, rows_b.values.astype(np.float64) ** 2, owners)
    for number, row in enumerate(rows_a):
        found = row.to_dense()[rows_b.indices].astype(np.float64)
        scores[number] = SCORES[name](found, row.values, rows_b, owners, lengths)
    return scores


def similarity_pairwise(
    a: SparseRows | SparseRow, b: SparseRows | SparseRow, name: Similarity
) -> FloatArray:
    """Score each row of `a` against the same row of `b`. Shape: (n, dimension) twice to (n,)."""
    rows_a, rows_b = _comparable(a, b, name)
    if len(rows_a) != len(rows_b):
        raise ValueError(f"a has {len(rows_a)} rows and b {len(rows_b)}; expected the same number")
    pairs = zip(rows_a, rows_b, strict=True)
    return np.array([similarity(x, y, name)[0, 0] for x, y in pairs], np.float32)


def _comparable(
    a: SparseRows | SparseRow, b: SparseRows | SparseRow, name: str
) -> tuple[SparseRows, SparseRows]:
    check_choice("similarity", name, SCORES)
    rows_a, rows_b = as_rows(a), as_rows(b)
    if rows_a.shape[1] != rows_b.shape[1]:
        raise ValueError(
            f"rows of {rows_a.shape[1]} and {rows_b.shape[1]} dimensions cannot be compared"
        )
    return rows_a, rows_b


def _sums(rows: SparseRows, values: Doubles, owners: NDArray[np.int64]) -> Doubles:
    """Return the sum of the values of each row. Shape: (active,) to (rows,)."""
    sums: Doubles = np.bincount(owners, values, minlength=len(rows)).astype(np.float64)
    return sums


Score = Callable[[Doubles, FloatArray, SparseRows, NDArray[np.int64], Doubles], NDArray[np.float64]]
"""Scores one row against others. Takes the row's values at the others' active dimensions, its own
active values, the others, the row of each active dimension, and the others' squared lengths."""


def _dot(
    found: Doubles, _: FloatArray, rows: SparseRows, owners: NDArray[np.int64], __: Doubles
) -> Doubles:
    return _sums(rows, found * rows.values, owners)


def _cosine(
    found: Doubles,
    values: FloatArray,
    rows: SparseRows,
    owners: NDArray[np.int64],
    lengths: Doubles,
) -> Doubles:
    norms = np.maximum(np.sqrt(lengths), TINY) * max(float(np.linalg.norm(values)), TINY)
    return _sums(rows, found * rows.values, owners) / norms


def _euclidean(
    found: Doubles,
    values: FloatArray,
    rows: SparseRows,
    owners: NDArray[np.int64],
    lengths: Doubles,
) -> Doubles:
    own = float(np.sum(values.astype(np.float64) ** 2))
    squares = own + lengths - 2 * _sums(rows, found * rows.values, owners)
    return -np.sqrt(np.maximum(squares, 0))


def _manhattan(
    found: Doubles, values: FloatArray, rows: SparseRows, owners: NDArray[np.int64], _: Doubles
) -> Doubles:
    # Where a row of `rows` is zero, the distance is the magnitude of the other.
    own = float(np.sum(np.abs(values.astype(np.float64))))
    return -(own + _sums(rows, np.abs(found - rows.values) - np.abs(found), owners))


SCORES: dict[str, Score] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
