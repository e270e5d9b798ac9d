"""The maximum rates of this machine, measured rather than taken from a data sheet.

Matrix products run in ONNX Runtime's kernels, on matrices so large that overhead is negligible.
Memory bandwidth is that of a copy larger than the caches.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper, parser

SIDE = 1536  # rows and columns of the matrices
COPIED = 256 * 2**20  # bytes
REPETITIONS = 7
GRAPH = """
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    product ({kind}[N, N] left) => (float[N, N] product) {{ product = {node} }}
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum rates of this machine on `threads` threads."""

    threads: int
    fp32: float
    """Operations per second; a multiplication and an addition count as two."""
    int8: float
    """Operations per second."""
    memory: float
    """Bytes per second, read or written."""


def measure_limits(threads: int) -> Limits:
    """Measure the rates on `threads` threads; the fastest of several repetitions counts."""
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (SIDE, SIDE), np.int8)
    left = generator.integers(0, 256, (SIDE, SIDE), np.uint8)
    floats, one, zero = left.astype(np.float32), np.float32(0.01), np.uint8(128)
    fp32 = _product(threads, "float", "MatMul(left, weights)", weights=weights.astype(np.float32))
    int8 = _product(
        threads,
        "uint8",
        "com.microsoft.MatMulIntegerToFloat(left, weights, one, scale, zero)",
        weights=weights,
        one=one,
        scale=np.full(SIDE, one),
        zero=zero,
    )
    operations = 2.0 * SIDE**3
    return Limits(
        threads,
        fp32=operations / _fastest(lambda: fp32.run(None, {"left": floats})),
        int8=operations / _fastest(lambda: int8.run(None, {"left": left})),
        memory=2 * COPIED / _fastest(_copy(threads)),
    )


def _product(threads: int, kind: str, node: str, **constants: Any) -> Any:
    """Open a session that multiplies a square matrix by constant weights, like a bundle's graph."""
    model = parser.parse_model(GRAPH.format(kind=kind, node=node))
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _copy(threads: int) -> Callable[[], object]:
    """Return a function that copies memory, one part per thread."""
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))


def _fastest(work: Callable[[], object]) -> float:
    return min(timeit.repeat(work, number=1, repeat=REPETITIONS))
