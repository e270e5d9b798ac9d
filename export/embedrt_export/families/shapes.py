"""Checks that the shapes of an encoder's weights match, before the graph is built."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import Encoder, Layer, Linear, Norm

Found = tuple[str, NDArray[np.float32], tuple[int, ...]]


def require_heads(encoder: Encoder) -> None:
    """Raise UnsupportedModelError unless the heads divide the encoder's width evenly."""
    if encoder.hidden % encoder.heads:
        raise UnsupportedModelError(
            f"config.json has {encoder.heads} attention heads, among which the {encoder.hidden} "
            "components of a token's vector cannot be shared evenly"
        )


def require_shapes(encoder: Encoder) -> None:
    """Raise UnsupportedModelError naming the first weight with an unexpected shape."""
    for name, array, expected in _shapes(encoder):
        if array.shape != expected:
            raise UnsupportedModelError(
                f"the weights of {name} have the shape {array.shape} and {expected} is expected: "
                "the weights and config.json are not those of one model"
            )


def _shapes(encoder: Encoder) -> Iterator[Found]:
    hidden = encoder.hidden
    positions = len(encoder.position_embeddings)
    yield "the position embeddings", encoder.position_embeddings, (positions, hidden)
    if encoder.token_types is not None:
        types = len(encoder.token_types)
        yield "the token type embeddings", encoder.token_types, (types, hidden)
    if encoder.relative_bias is not None:
        distances = 2 * encoder.positions - 1
        yield "the relative bias", encoder.relative_bias, (encoder.heads, distances)
    yield from _norm("the embeddings' LayerNorm", encoder.embedding_norm, hidden)
    for index, layer in enumerate(encoder.layers):
        yield from _layer(f"layer {index}", layer, hidden)


def _layer(name: str, layer: Layer, hidden: int) -> Iterator[Found]:
    wide = layer.up.weight.shape[1]
    yield from _linear(f"{name}'s query", layer.query, hidden, hidden)
    yield from _linear(f"{name}'s key", layer.key, hidden, hidden)
    yield from _linear(f"{name}'s value", layer.value, hidden, hidden)
    yield from _linear(f"{name}'s attention output", layer.attention_output, hidden, hidden)
    yield from _norm(f"{name}'s attention LayerNorm", layer.attention_norm, hidden)
    yield from _linear(f"{name}'s first feed-forward layer", layer.up, hidden, wide)
    yield from _linear(f"{name}'s second feed-forward layer", layer.down, wide, hidden)
    yield from _norm(f"{name}'s output LayerNorm", layer.output_norm, hidden)


def _linear(name: str, linear: Linear, inputs: int, outputs: int) -> Iterator[Found]:
    yield name, linear.weight, (inputs, outputs)
    yield f"{name} (bias)", linear.bias, (outputs,)


def _norm(name: str, norm: Norm, width: int) -> Iterator[Found]:
    yield name, norm.weight, (width,)
    yield f"{name} (bias)", norm.bias, (width,)
