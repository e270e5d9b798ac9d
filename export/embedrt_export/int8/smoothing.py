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
from embedrt_export.int8.calibration import Range
from embedrt_export.int8.conditions import require_finite, require_positive, require_shape

# The exponent a, by linear layer. These values maximize the smallest cosine of all-MiniLM-L6-v2 on
# the shipped held-out texts.
SMOOTHING = {"query_key_value": 0.8, "up": 0.8, "attention_output": 0.0, "down": 0.0}
VALUE_SMOOTHING = 0.5
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
        if name not in ranges:
            raise QuantizationError(f"smoothing: {name} has no range")
        weight = layer.attention_output.weight
        factor = smoothing(ranges[name].largest, weight, VALUE_SMOOTHING)
        smooth[name] = ranges[name].scaled(np.float32(1) / factor)
        factors.append(factor)
    layers = Lazy(
        len(encoder.layers), lambda index: _scale_values(encoder.layers[index], factors[index])
    )
    return replace(encoder, layers=layers), smooth


def _scale_values(layer: Layer, factor: FloatArray) -> Layer:
    value, output = layer.value, layer.attention_output
    return replace(
        layer,
        value=Linear(value.weight / factor, value.bias / factor),
        attention_output=Linear(output.weight * factor[:, None], output.bias),
    )
