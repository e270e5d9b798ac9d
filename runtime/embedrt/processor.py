"""What this machine's processor can do, as far as it decides how int8 must run.

ONNX Runtime multiplies uint8 by int8 exactly on ARM and on x86 with VNNI or AMX. Its kernels for
AVX2 and AVX-512 without those add two products in 16 bits and silently clip the sum; there the
weights must be made uint8 at load, which is slower and exact.

Which kernel is taken is not read off the processor's flags, which no system but Linux shows in a
file and which an emulator shows of its host: one small product tells.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import numpy as np

CPUINFO = Path("/proc/cpuinfo")  # names the processor on Linux
ROWS, INPUTS, COLUMNS = 8, 4, 4
LARGEST_UINT8, LARGEST_INT8 = 255, 127
# Numbers of ONNX's tensor types.
UINT8, INT8, INT32 = 2, 3, 6


def processor_name() -> str:
    """As people know it."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def clips_int8() -> bool:
    """Whether ONNX Runtime clips uint8 x int8 products here. Takes a few milliseconds, once."""
    # Here, because session.py must set ONNX Runtime's environment before any import of it.
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        _largest_product(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    rows = np.full((ROWS, INPUTS), LARGEST_UINT8, np.uint8)
    (product,) = session.run(["product"], {"rows": rows})
    return bool((product != INPUTS * LARGEST_UINT8 * LARGEST_INT8).any())


def _largest_product() -> bytes:
    """Rows of uint8 times a matrix of the largest int8, as ONNX; fields as in ``onnx.proto``."""
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
