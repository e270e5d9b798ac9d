"""Attention heads that a checkpoint leaves out, put back as heads that contribute nothing.

Michel et al. 2019, arXiv:1905.10650. All layers then have the same shape; a value of zero adds zero
to the output, whatever the scores are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import Encoder, FloatArray, Layer, Linear


def restore_heads(encoder: Encoder, pruned: Mapping[int, Sequence[int]]) -> Encoder:
    """Return the encoder with all heads in each layer; `pruned` has the missing ones by layer.

    Raises UnsupportedModelError where there is no such layer or head, or where the weights of a
    layer are not those of the other heads.
    """
    layers = list(encoder.layers)
    head_of = np.arange(encoder.hidden) // (encoder.hidden // encoder.heads)
    for index, heads in pruned.items():
        if not heads:
            continue
        if index not in range(len(layers)) or not set(heads) <= set(range(encoder.heads)):
            raise UnsupportedModelError(
                f"config.json prunes the heads {sorted(heads)} of layer {index}, and there are "
                f"{len(layers)} layers of {encoder.heads} heads"
            )
        kept = np.flatnonzero(~np.isin(head_of, list(heads)))
        layers[index] = _restore(layers[index], kept, encoder.hidden, index)
    return replace(encoder, layers=tuple(layers))


def _restore(layer: Layer, kept: NDArray[np.int64], hidden: int, index: int) -> Layer:
    """Spread what the kept channels of a layer's attention compute over all of them."""
    output = layer.attention_output
    widths = {
        "query": layer.query.weight.shape[1],
        "key": layer.key.weight.shape[1],
        "value": layer.value.weight.shape[1],
        "output": output.weight.shape[0],
    }
    if set(widths.values()) != {len(kept)}:
        raise UnsupportedModelError(
            f"config.json prunes heads of layer {index}, of which {len(kept)} channels are left, "
            f"and the weights have {widths}"
        )
    return replace(
        layer,
        query=_spread_outputs(layer.query, kept, hidden),
        key=_spread_outputs(layer.key, kept, hidden),
        value=_spread_outputs(layer.value, kept, hidden),
        attention_output=Linear(_spread(output.weight, kept, hidden), output.bias),
    )


def _spread_outputs(linear: Linear, kept: NDArray[np.int64], hidden: int) -> Linear:
    weight = np.ascontiguousarray(_spread(linear.weight.T, kept, hidden).T)
    return Linear(weight, _spread(linear.bias, kept, hidden))


def _spread(rows: FloatArray, kept: NDArray[np.int64], hidden: int) -> FloatArray:
    """Put the rows where they are kept, among rows of zeros."""
    spread = np.zeros((hidden, *rows.shape[1:]), np.float32)
    spread[kept] = rows
    return spread
