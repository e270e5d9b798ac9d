"""Restores pruned attention heads as zeros, so that all layers have the same shape.

A head with zero values adds zero to the output, regardless of its scores. Pruning follows Michel et
al. 2019, arXiv:1905.10650.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import Encoder, FloatArray, Layer, Lazy, Linear


def restore_heads(encoder: Encoder, pruned: Mapping[int, Sequence[int]]) -> Encoder:
    """Return the encoder with all heads restored; `pruned` lists the missing heads by layer.

    Raises UnsupportedModelError if a layer or head does not exist, and reading a layer does if its
    weights do not match its remaining heads.
    """
    head_of = np.arange(encoder.hidden) // (encoder.hidden // encoder.heads)
    kept: dict[int, NDArray[np.int64]] = {}
    for index, heads in pruned.items():
        if not heads:
            continue
        if index not in range(len(encoder.layers)) or not set(heads) <= set(range(encoder.heads)):
            raise UnsupportedModelError(
                f"config.json prunes the heads {sorted(heads)} of layer {index}, and there are "
                f"{len(encoder.layers)} layers of {encoder.heads} heads"
            )
        kept[index] = np.flatnonzero(~np.isin(head_of, list(heads)))

    def read(index: int) -> Layer:
        layer = encoder.layers[index]
        return _restore(layer, kept[index], encoder.hidden, index) if index in kept else layer

    return replace(encoder, layers=Lazy(len(encoder.layers), read)) if kept else encoder


def _restore(layer: Layer, kept: NDArray[np.int64], hidden: int, index: int) -> Layer:
    """Return the layer with its kept channels at their original indices and zeros elsewhere."""
    output = layer.attention_output
    widths = {
        "query": layer.query.weight.shape[1],
        "key": layer.key.weight.shape[1],
        "value": layer.value.weight.shape[1],
        "output": output.weight.shape[0],
    }
    if set(widths.values()) != {len(kept)}:
        raise UnsupportedModelError(
            f"config.json prunes heads of layer {index}, which leaves {len(kept)} channels, "
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
    """Place the rows at the indices `kept` of a matrix of zeros."""
    spread = np.zeros((hidden, *rows.shape[1:]), np.float32)
    spread[kept] = rows
    return spread
