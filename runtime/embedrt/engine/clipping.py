"""A small product that shows whether this machine clips int8.

ONNX Runtime multiplies uint8 by int8 exactly on ARM and on x86 with VNNI or AMX. Its kernels for
AVX2 and AVX-512 without those add two products in 16 bits and silently clip the sum; there the
weights must be made uint8 at load, which is slower and exact.

Which kernel is taken is not read off the processor's flags, which no system but Linux shows in a
file and which an emulator shows of its host: one product of the largest values tells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS, INPUTS, COLUMNS = 8, 4, 4
LARGEST_UINT8, LARGEST_INT8 = 255, 127
EXACT = INPUTS * LARGEST_UINT8 * LARGEST_INT8
# Numbers of ONNX's tensor types.
UINT8, INT8, INT32 = 2, 3, 6


def largest_rows() -> NDArray[np.uint8]:
    """Return the graph's input, named ``rows``. Shape: (8, 4)."""
    return np.full((ROWS, INPUTS), LARGEST_UINT8, np.uint8)


def largest_product() -> bytes:
    """Return rows of uint8 times a matrix of the largest int8, as ONNX.

    Its output is ``product``, whose values are all `EXACT`. Fields as in ``onnx.proto``.
    """
    matrix = (
        _number(1, INPUTS),
        _number(1, COLUMNS),
        _number(2, INT8),
        _content(8, b"matrix"),
        _content(9, bytes([LARGEST_INT8]) * (INPUTS * COLUMNS)),
    )
    node = (
        _content(1, b"rows"),
        _content(1, b"matrix"),
        _content(2, b"product"),
        _content(4, b"MatMulInteger"),
    )
    graph = (
        _content(1, *node),
        _content(2, b"g"),
        _content(5, *matrix),
        _content(11, _content(1, b"rows"), _tensor(UINT8, ROWS, INPUTS)),
        _content(12, _content(1, b"product"), _tensor(INT32, ROWS, COLUMNS)),
    )
    opset = (_content(1, b""), _number(2, 17))
    return _number(1, 8) + _content(7, *graph) + _content(8, *opset)


def _tensor(kind: int, *sizes: int) -> bytes:
    shape = (_content(1, _number(1, size)) for size in sizes)
    return _content(2, _content(1, _number(1, kind), _content(2, *shape)))


def _number(field: int, value: int) -> bytes:
    """A protobuf field with a number below 128."""
    return bytes([field << 3, value])


def _content(field: int, *parts: bytes) -> bytes:
    """A protobuf field with fewer than 16,384 bytes, in two groups of seven bits."""
    content = b"".join(parts)
    return bytes([field << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content
