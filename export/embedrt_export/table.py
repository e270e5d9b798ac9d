"""The weights of a static model: a table of token vectors, which are averaged over a text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedrt_export.encoder import FloatArray

# Tables keep the type that they are stored in, and are converted as they are read.
Rows: TypeAlias = FloatArray | NDArray[np.float16] | NDArray[np.int8]

LARGEST = 127  # of an int8, without -128, so that the range is symmetric
BLOCK = 4096  # rows that are quantized at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Token vectors, and the weight of each token in the mean."""

    rows: Rows
    """Shape: (rows, dimension)."""
    row_of: NDArray[np.int32] | None = None
    """The row of each token id; None if row i is that of token i. Shape: (tokens,)."""
    weights: FloatArray | None = None
    """Factor of each token id. Shape: (tokens,)."""
    scales: FloatArray | None = None
    """Factor of each row. Shape: (rows,)."""
    unknown: int | None = None
    """A token id that is left out of the mean."""

    @property
    def dimension(self) -> int:
        """Components of a token vector."""
        return int(self.rows.shape[1])

    @property
    def tokens(self) -> int:
        """Number of token ids that have a vector."""
        return len(self.rows) if self.row_of is None else len(self.row_of)


def quantize(table: Table) -> Table:
    """Return the table in int8, with a scale for each row."""
    rows = np.empty(table.rows.shape, np.int8)
    scales = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        block = table.rows[start : start + BLOCK].astype(np.float32)
        largest = np.abs(block).max(axis=1)
        scale = np.where(largest > 0, largest, 1) / np.float32(LARGEST)
        rows[start : start + BLOCK] = np.rint(block / scale[:, None])
        scales[start : start + BLOCK] = scale
    return replace(table, rows=rows, scales=scales)
