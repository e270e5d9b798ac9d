"""What this machine can do at most: measured, not read off a data sheet.

Matrix products go through ONNX Runtime's own kernels, on matrices so big that nothing else counts;
memory is copied, more of it than caches hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 1536  # of the matrices
COPIED = 256 * 2**20  # bytes
REPETITIONS = 7


@dataclass(frozen=True)
class Limits:
    """What this machine can do at most, as measured on so many threads."""

    threads: int
    fp32: float
    """Operations a second; a multiplication and an addition are two."""
    int8: float
    memory: float
    """Bytes a second, read or written."""


def measure_limits(threads: int) -> Limits:
    """Measure the best of several repetitions on so many threads."""
    work = 2.0 * SIDE**3
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (SIDE, SIDE), np.int8)
    left = generator.integers(0, 256, (SIDE, SIDE), np.uint8)
    fp32 = _product(weights.astype(np.float32), threads)
    int8 = _product(weights, threads)
    return Limits(
        threads,
        work / _fastest(lambda: fp32.run(None, {"left": left.astype(np.float32)})),
        work / _fastest(lambda: int8.run(None, {"left": left})),
        2 * COPIED / _fastest(_copy(threads)),
    )


def _product(weights: NDArray[Any], threads: int) -> Any:
    """A session that multiplies a square matrix by constant weights, as a bundle's graph does."""
    scale, zero = np.float32(0.01), np.uint8(128)
    if weights.dtype == np.int8:
        constants = {"weights": weights, "scale": np.full(SIDE, scale), "one": scale, "zero": zero}
        kind, operator, domain = TensorProto.UINT8, "MatMulIntegerToFloat", "com.microsoft"
        inputs = ["left", "weights", "one", "scale", "zero"]
    else:
        constants = {"weights": weights}
        kind, operator, domain, inputs = TensorProto.FLOAT, "MatMul", "", ["left", "weights"]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["product"], domain=domain)],
        "product",
        [helper.make_tensor_value_info("left", kind, [SIDE, SIDE])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _copy(threads: int) -> Callable[[], object]:
    """Copy memory, a part in each thread."""
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))


def _fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
