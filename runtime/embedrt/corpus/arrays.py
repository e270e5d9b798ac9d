"""Arrow arrays from numpy's memory and from texts, without importing pandas.

``pyarrow.array`` and ``pyarrow.scalar`` import pandas, if it is installed, to find out whether a
value is a Series. Each process would import it before its first part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def as_array(values: NDArray[Any]) -> Any:
    """Return contiguous numbers as an array, which shares their memory. Shape: (n,)."""
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def null_bitmap(valid: NDArray[np.bool_]) -> Any:
    """Return the bitmap of an array whose value is null where `valid` is false; None for no null.

    Shape: (n,).
    """
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def text_scalar(text: str | None) -> Any:
    """Return a text, or null, as a scalar of type string."""
    if text is None:
        return pa.nulls(1, pa.string())[0]
    content = text.encode()
    ends = pa.py_buffer(np.array([0, len(content)], np.int32))
    return pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(content)])[0]
