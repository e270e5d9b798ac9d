"""int8 schemes: products of uint8 activations and int8 weights, as x86 matrix units compute them.

A scale depends on one row or on the model, never on the batch, so that an embedding does not depend
on the other texts in its batch. Weights have one symmetric scale per column. Activations depend on
the scheme:

- static: one scale and zero point per layer, from calibration;
- row: scale max|x| / 127 per row, zero point 128. GELU outputs are never below -0.17, so after GELU
  the zero point is 8 and the scale max(max x / 247, 0.17 / 8), which uses more of the range;
- wide: 16 bits per row, in two bytes, for models that lose too much quality otherwise.

A few outlier channels, whose range far exceeds that of the others, stay in fp32 and are multiplied
separately.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from embedrt.bundle.quantization import Scheme
from embedrt.errors import QuantizationError
from embedrt_export.encoder import Activation, FloatArray, Linear
from embedrt_export.graph.nodes import CONTRIB, Nodes
from embedrt_export.int8.calibration import Range
from embedrt_export.int8.conditions import LARGEST, PRODUCT, require_count, require_finite, to_int8
from embedrt_export.int8.smoothing import SMOOTHING, WIDE_SMOOTHING, smoothing

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)  # fastest first

MIDDLE = 128
GELU_ZERO, GELU_LOWEST = 8, 0.17
TINY = 1e-8
# A channel is an outlier beyond this multiple of the median range. The factor of "down" is low: its
# inputs are not smoothed, and with few outputs a separate product is cheap.
OUTLIER = {
    "embedding_projection": 20.0,
    "query_key_value": 20.0,
    "gate": 20.0,
    "up": 20.0,
    "attention_output": 20.0,
    "down": 3.0,
    "dense": 20.0,
    "decoder": 20.0,
}
MOST_OUTLIERS = 16
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Bytes:
    """An activation in 8 bits: value = (bytes - zero) * scale."""

    bytes: str
    scale: str
    zero: str
    parts: int = 1
    """2 if the high bytes of all rows precede the low bytes; the two products are then added."""


@dataclass(frozen=True, slots=True)
class Input:
    """The quantized input of a linear layer."""

    vectors: str
    """The input in float32."""
    bytes: Bytes
    channels: FloatArray
    """The factors of smoothing. Shape: (inputs,)."""
    outliers: NDArray[np.int64]
    """The channels that are multiplied in float32."""
    bias: str
    """The layer's bias; empty if there is none."""


class Int8:
    """The encoder's lookups and linear layers in int8."""

    def __init__(
        self, scheme: Scheme, ranges: Mapping[str, Range], activation: Activation | None
    ) -> None:
        """`activation` gives the inputs of `down`; None if those are products with a gate."""
        self._scheme = scheme
        self._ranges = ranges
        self._activation = activation

    def add_embedding(self, nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
        """Add a lookup in a table with one scale per row."""
        return add_lookup(nodes, name, table, ids)

    def add_linear(self, nodes: Nodes, name: str, linear: Linear, vectors: str) -> str:
        """Add a quantized linear layer; raise QuantizationError if it has no calibrated range."""
        return self.add_output(
            nodes, name, linear.weight, self.add_input(nodes, name, linear, vectors)
        )

    def add_input(self, nodes: Nodes, name: str, linear: Linear, vectors: str) -> Input:
        """Quantize the input of a linear layer; raise QuantizationError if it has no range."""
        kind = name.rpartition(".")[2]
        if name not in self._ranges:
            raise QuantizationError(f"int8: {name} has no range")
        read = self._ranges[name]
        outliers = find_outliers(read, OUTLIER[kind])
        inside = read.without(outliers)
        alpha = WIDE_SMOOTHING if self._scheme == "wide" else SMOOTHING[kind]
        channels = smoothing(inside.largest, _without(linear.weight, outliers), alpha)
        static = self._scheme == "static"
        inverse = np.float32(1) / channels
        if not static:
            # Outliers must not widen the scale of a row. Under a static scale they may saturate,
            # because their weights are zero.
            inverse[outliers] = 0
        smooth = vectors
        if not np.all(inverse == 1):
            smooth = nodes.add("Mul", vectors, nodes.weight(f"{name}.smoothing", inverse))
        bias = nodes.weight(f"{name}.bias", linear.bias) if linear.bias.any() else ""
        if static:
            quantized = _quantize_static(nodes, name, smooth, inside.scaled(inverse))
        elif self._scheme == "wide":
            quantized = quantize_wide(nodes, smooth)
        elif kind == "down" and self._activation in ("gelu", "gelu_tanh"):
            quantized = _quantize_gelu(nodes, smooth, len(channels))
        else:
            quantized = quantize_rows(nodes, smooth, len(channels))
        return Input(vectors, quantized, channels, outliers, bias)

    def add_output(self, nodes: Nodes, name: str, weight: FloatArray, read: Input) -> str:
        """Add the product of a quantized input and a weight, with the input's bias."""
        inside = _without(weight, read.outliers) * read.channels[:, None]
        weight_bytes, weight_scales = quantize_weight(name, inside)
        static, outliers = self._scheme == "static", read.outliers
        # With a scale per row the operator would scale its bias too.
        inner = read.bias if static else ""
        product = add_product(nodes, name, read.bytes, weight_bytes, weight_scales, bias=inner)
        if outliers.size:
            picked = nodes.add("Gather", read.vectors, nodes.ints(*outliers.tolist()), axis=1)
            rows = nodes.weight(f"{name}.outliers", weight[outliers])
            product = nodes.add("Gemm", picked, rows, product)
        return nodes.add("Add", product, read.bias) if read.bias and not static else product


def _without(weight: FloatArray, outliers: NDArray[np.int64]) -> FloatArray:
    """Return the weight with zeros for the outlier channels."""
    kept = weight.copy()
    kept[outliers] = 0
    return kept


def require_products(model: onnx.ModelProto, linears: int) -> None:
    """Raise QuantizationError unless each linear layer became one int8 product."""
    found = sum(node.op_type == PRODUCT for node in model.graph.node)
    require_count("products in int8", found, linears)


def add_lookup(nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
    """Add a lookup in an int8 table with one scale per row; the result is float32."""
    steps, scales = _quantize_table(name, table)
    rows = nodes.weight(name, steps)
    found = nodes.add("Cast", nodes.add("Gather", rows, ids), to=TensorProto.FLOAT)
    scale = nodes.weight(f"{name}.scale", scales)
    return nodes.add("Mul", found, nodes.add("Gather", scale, ids))


def _quantize_table(name: str, table: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Return int8 rows and the scale of each, (rows, 1), made a block at a time to save memory."""
    steps = np.empty(table.shape, np.int8)
    scales = np.empty((len(table), 1), np.float32)
    for start in range(0, len(table), ROWS_AT_ONCE):
        block = slice(start, start + ROWS_AT_ONCE)
        largest = np.abs(table[block]).max(axis=1, keepdims=True)
        scales[block] = np.maximum(largest, TINY) / LARGEST
        steps[block] = to_int8(name, table[block], scales[block])
    return steps, scales


def find_outliers(read: Range, factor: float) -> NDArray[np.int64]:
    """Return the outlier channels: their range exceeds `factor` times the median range.

    Follows Dettmers et al. 2022, arXiv:2208.07339, with the channels fixed by calibration.
    """
    wide = np.flatnonzero(read.largest > factor * np.median(read.largest))
    return wide[np.argsort(-read.largest[wide], kind="stable")][:MOST_OUTLIERS]


def quantize_weight(name: str, weight: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Return int8 weights and the scale of each column; errors name the layer `name`."""
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
    """Add the product of an activation and a matrix with one scale per column, in float32."""
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
    """Quantize each row by its largest magnitude, with zero point 128."""
    largest = _row_maximum(nodes, nodes.add("Abs", vectors))
    return _by_row(nodes, vectors, inputs, _scaled(nodes, largest, 1 / LARGEST, TINY), MIDDLE)


def quantize_wide(nodes: Nodes, vectors: str) -> Bytes:
    """Quantize each row to 16 bits, x / s = 256 * high + low, as two rows of bytes."""
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
    """Quantize with one scale per row, (rows, 1).

    One block per row with explicit zero points is the only form that ONNX Runtime vectorizes.
    """
    zero_point = nodes.byte(zero)
    zeros = nodes.add("Expand", zero_point, nodes.add("Shape", scale))
    quantized = nodes.add("QuantizeLinear", vectors, scale, zeros, axis=-1, block_size=inputs)
    return Bytes(quantized, scale, zero_point)


def _row_maximum(nodes: Nodes, vectors: str) -> str:
    return nodes.add("ReduceMax", vectors, nodes.ints(-1), keepdims=1)


def _scaled(nodes: Nodes, largest: str, factor: float, floor: float) -> str:
    return nodes.add("Max", nodes.add("Mul", largest, nodes.scalar(factor)), nodes.scalar(floor))
