"""int8: uint8 activations times int8 weights, the one pairing that x86 has matrix units for.

Every scale belongs to a row or to the model, never to a batch, so that a text keeps its bytes.
Weights: one scale a column, symmetric. Activations, by scheme:

- static: one scale and zero point a layer, from calibration;
- row: s = max|x| / 127 of each row, zero point 128. GELU's output is never below -0.17: zero point
  8 and s = max(max x / 247, 0.17 / 8) of each row spends the range where the values are;
- wide: 16 bits of each row in two bytes, for models that nothing else fits.

A few channels whose range is far beyond the others' stay in fp32, in a small product of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from embedrt.bundle.manifest import Scheme
from embedrt.errors import QuantizationError
from embedrt_export.encoder import Activation, FloatArray, Linear
from embedrt_export.graph.nodes import Nodes
from embedrt_export.int8.calibration import Range
from embedrt_export.int8.conditions import (
    LARGEST,
    PRODUCT,
    require_count,
    require_finite,
    to_int8,
)
from embedrt_export.int8.smoothing import SMOOTHING, WIDE_SMOOTHING, smoothing

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)  # fastest first

CONTRIB = "com.microsoft"
MIDDLE = 128
GELU_ZERO, GELU_LOWEST = 8, 0.17
TINY = 1e-8
# Times the median channel's range. Smoothing evens most channels out, but not those of "down": and
# there, where the outputs are few, a product of their own is cheap.
OUTLIER = {"query_key_value": 20.0, "up": 20.0, "attention_output": 20.0, "down": 3.0}
MOST_OUTLIERS = 16


@dataclass(frozen=True, slots=True)
class Bytes:
    """An activation in 8 bits: value = (bytes - zero) * scale."""

    bytes: str
    scale: str
    zero: str
    parts: int = 1
    """2 where the rows are all high bytes, then all low ones, whose products are to be added."""


class Int8:
    """How the encoder's large operations are written in int8."""

    def __init__(self, scheme: Scheme, ranges: Mapping[str, Range], activation: Activation) -> None:
        self._scheme = scheme
        self._ranges = ranges
        self._activation = activation

    def add_embedding(self, nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
        """Add a lookup in a table of one scale a row."""
        return add_lookup(nodes, name, table, ids)

    def add_linear(self, nodes: Nodes, name: str, linear: Linear, vectors: str) -> str:
        """Add a linear layer on a quantized input; raise QuantizationError if it has no range."""
        kind = name.rpartition(".")[2]
        if name not in self._ranges:
            raise QuantizationError(f"int8: {name} has no range")
        read = self._ranges[name]
        outliers = find_outliers(read, OUTLIER[kind])
        weight = linear.weight.copy()
        weight[outliers] = 0
        inside = read.without(outliers)
        alpha = WIDE_SMOOTHING if self._scheme == "wide" else SMOOTHING[kind]
        channels = smoothing(inside.largest, weight, alpha)
        weight_bytes, weight_scales = quantize_weight(name, weight * channels[:, None])
        static = self._scheme == "static"
        inverse = np.float32(1) / channels
        if not static:
            # A static scale lets them saturate, times weights of zero; a row's must not see them.
            inverse[outliers] = 0
        smooth = vectors
        if not np.all(inverse == 1):
            smooth = nodes.add("Mul", vectors, nodes.weight(f"{name}.smoothing", inverse))
        bias = nodes.weight(f"{name}.bias", linear.bias)
        if static:
            quantized = _quantize_static(nodes, name, smooth, inside.scaled(inverse))
        elif self._scheme == "wide":
            quantized = quantize_wide(nodes, smooth)
        elif kind == "down" and self._activation != "relu":
            quantized = _quantize_gelu(nodes, smooth, len(channels))
        else:
            quantized = quantize_rows(nodes, smooth, len(channels))
        # A row's scale would be multiplied into the operator's own bias.
        inner = bias if static else ""
        product = add_product(nodes, name, quantized, weight_bytes, weight_scales, bias=inner)
        if outliers.size:
            picked = nodes.add("Gather", vectors, nodes.ints(*outliers.tolist()), axis=1)
            rows = nodes.weight(f"{name}.outliers", linear.weight[outliers])
            product = nodes.add("Gemm", picked, rows, product)
        return product if static else nodes.add("Add", product, bias)


def require_products(model: onnx.ModelProto, linears: int) -> None:
    """Raise QuantizationError unless each linear layer became one product of int8."""
    found = sum(node.op_type == PRODUCT for node in model.graph.node)
    require_count("products in int8", found, linears)


def add_lookup(nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
    """Add a lookup of rows in a table of one scale a row, in float32."""
    scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), TINY) / LARGEST
    rows = nodes.weight(name, to_int8(name, table, scales))
    found = nodes.add("Cast", nodes.add("Gather", rows, ids), to=TensorProto.FLOAT)
    scale = nodes.weight(f"{name}.scale", scales.astype(np.float32))
    return nodes.add("Mul", found, nodes.add("Gather", scale, ids))


def find_outliers(read: Range, factor: float) -> NDArray[np.int64]:
    """Return the channels whose range would hide the others': they stay in fp32.

    After Dettmers et al. 2022, arXiv:2208.07339, with the channels fixed by calibration.
    """
    wide = np.flatnonzero(read.largest > factor * np.median(read.largest))
    return wide[np.argsort(-read.largest[wide], kind="stable")][:MOST_OUTLIERS]


def quantize_weight(name: str, weight: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Return int8 weights and the scale of each column; `name` is the layer's, for errors."""
    scales = np.maximum(np.abs(weight).max(axis=0), TINY) / LARGEST
    return to_int8(f"{name}, weights", weight, scales), scales.astype(np.float32)


def add_product(
    nodes: Nodes,
    name: str,
    left: Bytes,
    weight: NDArray[np.int8],
    scales: FloatArray,
    *,
    bias: str = "",
) -> str:
    """Add the product of an activation and a matrix of one scale a column, in float32."""
    product = nodes.add(
        PRODUCT,
        left.bytes,
        nodes.weight(f"{name}.weight", weight),
        left.scale,
        nodes.weight(f"{name}.scale", scales),
        left.zero,
        *(["", bias] if bias else []),
        domain=CONTRIB,
    )
    if left.parts == 1:
        return product
    return nodes.add("Add", *nodes.add_many("Split", left.parts, product, num_outputs=left.parts))


def quantize_rows(nodes: Nodes, vectors: str, inputs: int) -> Bytes:
    """Scale each row by its largest magnitude, about the middle byte."""
    largest = _row_maximum(nodes, nodes.add("Abs", vectors))
    return _by_row(nodes, vectors, inputs, _scaled(nodes, largest, 1 / LARGEST, TINY), MIDDLE)


def quantize_wide(nodes: Nodes, vectors: str) -> Bytes:
    """Scale each row to 16 bits, x / s = 256 * high + low, as two rows of bytes."""
    largest = _row_maximum(nodes, nodes.add("Abs", vectors))
    step, zero = nodes.scalar(256.0), nodes.byte(MIDDLE)
    scale = _scaled(nodes, largest, 1 / (256 * LARGEST), TINY)
    whole = nodes.add("Div", vectors, scale)
    high = nodes.add("Round", nodes.add("Div", whole, step))
    low = nodes.add("Sub", whole, nodes.add("Mul", high, step))
    both = nodes.add("Concat", high, low, axis=0)
    return Bytes(
        nodes.add("QuantizeLinear", both, nodes.scalar(1.0), zero),
        nodes.add("Concat", nodes.add("Mul", scale, step), scale, axis=0),
        zero,
        parts=2,
    )


def _quantize_static(nodes: Nodes, name: str, vectors: str, read: Range) -> Bytes:
    require_finite(f"{name}, its static range", read.largest)
    lowest, highest = min(float(read.lowest.min()), 0), max(float(read.highest.max()), 0)
    step = max(highest - lowest, TINY) / 255
    scale, zero = nodes.scalar(step), nodes.byte(round(-lowest / step))
    return Bytes(nodes.add("QuantizeLinear", vectors, scale, zero), scale, zero)


def _quantize_gelu(nodes: Nodes, vectors: str, inputs: int) -> Bytes:
    factor, floor = 1 / (255 - GELU_ZERO), GELU_LOWEST / GELU_ZERO
    scale = _scaled(nodes, _row_maximum(nodes, vectors), factor, floor)
    return _by_row(nodes, vectors, inputs, scale, GELU_ZERO)


def _by_row(nodes: Nodes, vectors: str, inputs: int, scale: str, zero: int) -> Bytes:
    """Quantize by a scale a row, (rows, 1).

    As one block a row, with zero points spelled out: the one form that ONNX Runtime vectorizes.
    """
    zero_point = nodes.byte(zero)
    zeros = nodes.add("Expand", zero_point, nodes.add("Shape", scale))
    quantized = nodes.add("QuantizeLinear", vectors, scale, zeros, axis=-1, block_size=inputs)
    return Bytes(quantized, scale, zero_point)


def _row_maximum(nodes: Nodes, vectors: str) -> str:
    return nodes.add("ReduceMax", vectors, nodes.ints(-1), keepdims=1)


def _scaled(nodes: Nodes, largest: str, factor: float, floor: float) -> str:
    return nodes.add("Max", nodes.add("Mul", largest, nodes.scalar(factor)), nodes.scalar(floor))
