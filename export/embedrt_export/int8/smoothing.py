"""Range moved from activations to weights, so that one scale serves all channels of an activation.

Xiao et al. 2022, arXiv:2211.10438, equation 4: x / c and c * W with c = max|x|^a / max|W|^(1 - a)
by channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from embedrt.errors import QuantizationError
from embedrt_export.encoder import Encoder, FloatArray, Layer, Linear
from embedrt_export.int8.calibration import Range
from embedrt_export.int8.conditions import require_finite, require_positive, require_shape

# a in the formula, by the linear layer that reads the activation. These gave real MiniLM its best
# smallest cosine on the shipped texts that are held back.
SMOOTHING = {"query_key_value": 0.8, "up": 0.8, "attention_output": 0.0, "down": 0.0}
VALUE_SMOOTHING = 0.5
WIDE_SMOOTHING = 0.5  # activations of 16 bits can take what the weights cannot


def smoothing(activations: FloatArray, weight: FloatArray, alpha: float) -> FloatArray:
    """Return c of each input channel, its geometric mean 1; 1 where nothing flows.

    Shape: (inputs,) and (inputs, outputs) to (inputs,). Raises QuantizationError where the two do
    not fit, or are not finite, and where a factor would not be finite and positive.
    """
    require_shape("smoothing: ranges", activations, (len(weight),))
    require_finite("smoothing: ranges", activations)
    require_finite("smoothing: weights", weight)
    factor = np.ones(len(activations), np.float32)
    largest = np.abs(weight).max(axis=1)
    used = (activations > 0) & (largest > 0)
    if alpha == 0 or not used.any():
        return factor
    with np.errstate(all="ignore"):  # what comes of values too far apart is named below
        factor[used] = activations[used] ** alpha / largest[used] ** (1 - alpha)
        factor[used] /= np.exp(np.log(factor[used]).mean())
    require_positive("smoothing: factors", factor)
    return factor


def smooth_values(
    encoder: Encoder, ranges: Mapping[str, Range]
) -> tuple[Encoder, dict[str, Range]]:
    """Smooth what the attention outputs read, exactly and for nothing: by scaling the values.

    Attention mixes each value channel with itself alone, so x / c is v / c, and that is a scaled
    column of the value projection. Returns the encoder and the ranges as they then are. Raises
    QuantizationError where a layer has no range.
    """
    smooth = dict(ranges)
    layers = []
    for index, layer in enumerate(encoder.layers):
        name = f"layer_{index}.attention_output"
        if name not in ranges:
            raise QuantizationError(f"smoothing: {name} has no range")
        weight = layer.attention_output.weight
        factor = smoothing(ranges[name].largest, weight, VALUE_SMOOTHING)
        smooth[name] = ranges[name].scaled(np.float32(1) / factor)
        layers.append(_scale_values(layer, factor))
    return replace(encoder, layers=tuple(layers)), smooth


def _scale_values(layer: Layer, factor: FloatArray) -> Layer:
    value, output = layer.value, layer.attention_output
    return replace(
        layer,
        value=Linear(value.weight / factor, value.bias / factor),
        attention_output=Linear(output.weight * factor[:, None], output.bias),
    )
