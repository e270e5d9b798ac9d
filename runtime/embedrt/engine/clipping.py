"""A small matrix product that detects whether int8 kernels saturate on this machine.

ONNX Runtime multiplies uint8 by int8 exactly on ARM and on x86 with VNNI or AMX. Its kernels for
other x86 processors, with AVX2 or AVX-512, add two products in 16 bits and silently clip the sum.
On these, weights must be converted to uint8 at load, which is slower and exact.

The detection runs a product of the largest values. Processor flags are unsuitable: only Linux
exposes them in a file, and emulators expose those of the host.
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
    """Return an ONNX model that multiplies uint8 rows by a matrix of the largest int8 value.

    The output is named ``product``; without clipping, all of its values are `EXACT`. Field numbers
    are those of ``onnx.proto``.
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
    """Encode a protobuf field with a number below 128."""
    return bytes([field << 3, value])


def _content(field: int, *parts: bytes) -> bytes:
    """Encode a protobuf field of fewer than 16,384 bytes; its length takes two 7-bit groups."""
    content = b"".join(parts)
    return bytes([field << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content
