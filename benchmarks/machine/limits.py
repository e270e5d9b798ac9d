"""The maximum rates of this machine, measured rather than taken from a data sheet.

Where embedrt-kernels is installed, its library measures the peaks of the processor: multiplications
and additions of registers and nothing else. Without it, or on an unsupported processor, a limit is
the rate of ONNX Runtime's product on matrices so large that overhead is negligible. Memory
bandwidth is that of a copy larger than the caches.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import numpy_helper, parser

from benchmarks.statistics import significant
from embedrt.kernels.choose import PACKAGE
from embedrt.kernels.library import PEAKS, Library

SIDE = 1536  # rows and columns of the matrices
OPERATIONS = 2.0 * SIDE**3
INT8 = ("vnni", "amx")  # the peaks of products in int8
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
    peaks: Mapping[str, float] = field(default_factory=dict)
    """Operations per second by kind of instruction, from registers; empty if not measured."""

    @property
    def of_int8(self) -> str:
        """The name of the operation that `int8` is the rate of."""
        return fastest_int8(self.peaks).upper() or "ONNX Runtime's product"

    def __str__(self) -> str:
        """Describe the limits in one line."""
        rates = {kind.upper(): rate for kind, rate in self.peaks.items()}
        if not rates:
            rates = {"fp32": self.fp32, "int8": self.int8}
        shown = ", ".join(f"{kind} {significant(rate / 1e9)} GOP/s" for kind, rate in rates.items())
        source = "from registers" if self.peaks else "in ONNX Runtime's products"
        return (
            f"{self.threads} thread(s): {shown} {source}, "
            f"memory {significant(self.memory / 1e9)} GB/s"
        )


def measure_limits(threads: int) -> Limits:
    """Measure the rates on `threads` threads; the fastest of several repetitions counts."""
    peaks = measure_peaks(threads)
    int8 = fastest_int8(peaks)
    return Limits(
        threads,
        fp32=peaks["fp32"] if "fp32" in peaks else _fp32_product(threads),
        int8=peaks[int8] if int8 else _int8_product(threads),
        memory=2 * COPIED / _fastest(_copy(threads)),
        peaks=peaks,
    )


def measure_peaks(threads: int) -> dict[str, float]:
    """Return the processor's peaks on `threads` threads together, without those that it lacks.

    Returns none if embedrt-kernels is not installed.
    """
    if find_spec(PACKAGE) is None:
        return {}
    library, peaks = Library(import_module(PACKAGE).library()), {}
    with ThreadPoolExecutor(threads) as pool:
        for which, kind in enumerate(PEAKS):
            if rate := sum(pool.map(library.peak, [which] * threads)):
                peaks[kind] = rate
    return peaks


def fastest_int8(peaks: Mapping[str, float]) -> str:
    """Return the kind of the fastest products in int8; empty if there is none."""
    return max((kind for kind in INT8 if kind in peaks), key=lambda kind: peaks[kind], default="")


def _fp32_product(threads: int) -> float:
    generator = np.random.default_rng(0)
    left, weights = generator.integers(-127, 128, (2, SIDE, SIDE)).astype(np.float32)
    return _rate_of_product(threads, "float", "MatMul(left, weights)", left, weights=weights)


def _int8_product(threads: int) -> float:
    generator = np.random.default_rng(0)
    one = np.float32(0.01)
    return _rate_of_product(
        threads,
        "uint8",
        "com.microsoft.MatMulIntegerToFloat(left, weights, one, scale, zero)",
        generator.integers(0, 256, (SIDE, SIDE), np.uint8),
        weights=generator.integers(-127, 128, (SIDE, SIDE), np.int8),
        one=one,
        scale=np.full(SIDE, one),
        zero=np.uint8(128),
    )


def _rate_of_product(threads: int, kind: str, node: str, left: Any, **constants: Any) -> float:
    """Multiply a square matrix by constant weights in a session, like a bundle's graph."""
    model = parser.parse_model(GRAPH.format(kind=kind, node=node))
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return OPERATIONS / _fastest(lambda: session.run(None, {"left": left}))


def _copy(threads: int) -> Callable[[], object]:
    """Return a function that copies memory, one part per thread."""
    source = np.ones(COPIED // 8)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))


def _fastest(work: Callable[[], object]) -> float:
    return min(timeit.repeat(work, number=1, repeat=REPETITIONS))
