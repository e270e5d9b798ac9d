"""Smoothing: shifts range from activations to weights, so that one scale fits all channels.

Follows equation 4 of Xiao et al. 2022, arXiv:2211.10438: x / c and c * W with
c = max|x|^a / max|W|^(1 - a) for each channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from embedrt.errors import QuantizationError
from embedrt_export.encoder import Encoder, FloatArray, Layer, Lazy, Linear
from embedrt_export.graph.attention import by_query_head
from embedrt_export.int8.calibration import Range
from embedrt_export.int8.conditions import require_finite, require_positive, require_shape

# The exponent a, by linear layer. These values maximize the smallest cosine of all-MiniLM-L6-v2 on
# the shipped held-out texts.
SMOOTHING = {
    "embedding_projection": 0.8,
    "query_key_value": 0.8,
    "gate": 0.8,
    "up": 0.8,
    "attention_output": 0.0,
    "down": 0.0,
    "dense": 0.8,
    "decoder": 0.8,
}
VALUE_SMOOTHING = PRODUCT_SMOOTHING = 0.5
WIDE_SMOOTHING = 0.5  # lower than in 8 bits: 16-bit activations tolerate a wider range


def smoothing(activations: FloatArray, weight: FloatArray, alpha: float) -> FloatArray:
    """Return the factor c of each input channel, with geometric mean 1.

    The factor is 1 for channels whose activations or weights are all zero. Shape: (inputs,) and
    (inputs, outputs) to (inputs,). Raises QuantizationError if the shapes do not match or if a
    value or a factor is not finite.
    """
    require_shape("smoothing: ranges", activations, (len(weight),))
    require_finite("smoothing: ranges", activations)
    require_finite("smoothing: weights", weight)
    factor = np.ones(len(activations), np.float32)
    largest = np.abs(weight).max(axis=1)
    used = (activations > 0) & (largest > 0)
    if alpha == 0 or not used.any():
        return factor
    with np.errstate(all="ignore"):  # require_positive reports overflow below
        factor[used] = activations[used] ** alpha / largest[used] ** (1 - alpha)
        factor[used] /= np.exp(np.log(factor[used]).mean())
    require_positive("smoothing: factors", factor)
    return factor


def smooth_values(
    encoder: Encoder, ranges: Mapping[str, Range]
) -> tuple[Encoder, dict[str, Range]]:
    """Smooth the inputs of the attention outputs by scaling the value projections.

    Attention does not mix value channels, so scaling a column of the value projection scales the
    same channel of the input: the result is exact and adds no operation. Returns the new encoder
    and its ranges. Raises QuantizationError if a layer has no range.
    """
    smooth = dict(ranges)
    factors = []
    for index, layer in enumerate(encoder.layers):
        name = f"layer_{index}.attention_output"
        found = _range_of(ranges, name)
        factors.append(_value_factor(encoder, found.largest, layer.attention_output.weight))
        by_query = by_query_head(encoder, factors[index])
        smooth[name] = found.scaled(np.float32(1) / by_query)

    def scaled(index: int) -> Layer:
        layer, factor = encoder.layers[index], factors[index]
        by_query = by_query_head(encoder, factor)
        value, output = layer.value, layer.attention_output
        return replace(
            layer,
            value=Linear(value.weight / factor, value.bias / factor),
            attention_output=Linear(output.weight * by_query[:, None], output.bias),
        )

    return replace(encoder, layers=Lazy(len(encoder.layers), scaled)), smooth


def smooth_products(
    encoder: Encoder, ranges: Mapping[str, Range]
) -> tuple[Encoder, dict[str, Range]]:
    """Smooth the products that `down` reads in gated feed-forward layers, by scaling `up`.

    As exact as `smooth_values`, with the same results and errors.
    """
    smooth = dict(ranges)
    factors: dict[int, FloatArray] = {}
    for index, layer in enumerate(encoder.layers):
        if layer.gate is not None:
            name = f"layer_{index}.down"
            found = _range_of(ranges, name)
            factors[index] = smoothing(found.largest, layer.down.weight, PRODUCT_SMOOTHING)
            smooth[name] = found.scaled(np.float32(1) / factors[index])

    def scaled(index: int) -> Layer:
        layer = encoder.layers[index]
        if index not in factors:
            return layer
        up, down, factor = layer.up, layer.down, factors[index]
        return replace(
            layer,
            up=Linear(up.weight / factor, up.bias / factor),
            down=Linear(down.weight * factor[:, None], down.bias),
        )

    return replace(encoder, layers=Lazy(len(encoder.layers), scaled)), smooth


def _range_of(ranges: Mapping[str, Range], name: str) -> Range:
    if name not in ranges:
        raise QuantizationError(f"smoothing: {name} has no range")
    return ranges[name]


def _value_factor(encoder: Encoder, largest: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the factor of each value channel, which several query heads may read."""
    require_shape("smoothing: ranges", largest, (len(weight),))
    heads = encoder.key_heads or encoder.heads
    by_head = largest.reshape(heads, encoder.heads // heads, -1).max(axis=1)
    rows = weight.reshape(heads, encoder.heads // heads, -1, weight.shape[1])
    by_channel = np.moveaxis(rows, 1, 2).reshape(encoder.key_width, -1)
    return smoothing(by_head.reshape(-1), by_channel, VALUE_SMOOTHING)
