"""Sparse rows as a column: a struct of two lists, the active dimensions and their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedrt.corpus.arrays import as_array, null_bitmap
from embedrt.sparse_rows import NO_TERMS, TERM, SparseRows, Terms

COLUMN = pa.struct([("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float32()))])


def rows_of(found: SparseRows, valid: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the terms of each row, none where `valid` is false. Shape: (rows,)."""
    rows = np.empty(len(valid), object)
    rows[:] = [NO_TERMS] * len(valid)
    for place, row in zip(np.flatnonzero(valid), found, strict=True):
        terms = np.empty(len(row), TERM)
        terms["index"], terms["value"] = row.indices, row.values
        rows[place] = terms
    return rows


def as_sparse_column(rows: Iterable[Terms], valid: NDArray[np.bool_]) -> Any:
    """Return the terms of each row as an array of `COLUMN`. Null where `valid` is false."""
    rows = list(rows)
    terms = np.concatenate([NO_TERMS, *rows])
    ends = pa.py_buffer(np.cumsum([0, *map(len, rows)]).astype(np.int32))
    numbers = as_array(terms["index"].copy()), as_array(terms["value"].copy())
    lists = [
        pa.Array.from_buffers(field.type, len(rows), [None, ends], children=[values])
        for field, values in zip(COLUMN, numbers, strict=True)
    ]
    return pa.Array.from_buffers(COLUMN, len(rows), [null_bitmap(valid)], children=lists)


def read_sparse_column(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the terms of each row of an array of `COLUMN`, and which rows are not null."""
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    rows = np.empty(len(array), object)
    columns = (array.field("indices").to_pylist(), array.field("values").to_pylist())
    for place, (indices, values) in enumerate(zip(*columns, strict=True)):
        present = bool(valid[place])
        terms = np.empty(len(indices) if present else 0, TERM)
        if present:
            terms["index"], terms["value"] = indices, values
        rows[place] = terms
    return rows, valid
