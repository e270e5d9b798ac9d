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

from embedrt.bundle.protobuf import field

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
        field(1, INPUTS),
        field(1, COLUMNS),
        field(2, INT8),
        field(8, b"matrix"),
        field(9, bytes([LARGEST_INT8]) * (INPUTS * COLUMNS)),
    )
    node = (
        field(1, b"rows"),
        field(1, b"matrix"),
        field(2, b"product"),
        field(4, b"MatMulInteger"),
    )
    graph = (
        _message(1, *node),
        field(2, b"g"),
        _message(5, *matrix),
        _message(11, field(1, b"rows"), _tensor(UINT8, ROWS, INPUTS)),
        _message(12, field(1, b"product"), _tensor(INT32, ROWS, COLUMNS)),
    )
    opset = (field(1, b""), field(2, 17))
    return field(1, 8) + _message(7, *graph) + _message(8, *opset)


def _tensor(kind: int, *sizes: int) -> bytes:
    shape = (_message(1, field(1, size)) for size in sizes)
    return _message(2, _message(1, field(1, kind), _message(2, *shape)))


def _message(number: int, *fields: bytes) -> bytes:
    return field(number, b"".join(fields))
