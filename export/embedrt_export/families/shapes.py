"""Checks that the shapes of an encoder's weights match, before the graph is built."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import AnyNorm, Encoder, FloatArray, Layer, Linear, Norm, Norms

Found = tuple[str, NDArray[np.float32], tuple[int, ...]]


def require_heads(encoder: Encoder) -> None:
    """Raise UnsupportedModelError unless the heads divide the encoder's width evenly."""
    if encoder.head_size is None and encoder.hidden % encoder.heads:
        raise UnsupportedModelError(
            f"config.json has {encoder.heads} attention heads, among which the {encoder.hidden} "
            "components of a token's vector cannot be shared evenly"
        )


def require_shapes(encoder: Encoder) -> None:
    """Raise UnsupportedModelError naming the first weight with an unexpected shape."""
    for name, array, expected in _shapes(encoder):
        require_shape(name, array, expected)


def require_shape(name: str, array: NDArray[np.float32], expected: tuple[int, ...]) -> None:
    """Raise UnsupportedModelError unless the weights called `name` have this shape."""
    if array.shape != expected:
        raise UnsupportedModelError(
            f"the weights of {name} have the shape {array.shape} and {expected} is expected: "
            "the weights and config.json are not those of one model"
        )


def _shapes(encoder: Encoder) -> Iterator[Found]:
    embedded, hidden = encoder.word_embeddings.shape[1], encoder.hidden
    if encoder.position_embeddings is not None:
        positions = len(encoder.position_embeddings)
        yield "the position embeddings", encoder.position_embeddings, (positions, embedded)
    if encoder.token_types is not None:
        types = len(encoder.token_types)
        yield "the token type embeddings", encoder.token_types, (types, embedded)
    yield from _bias("the relative bias", encoder.relative_bias, encoder.heads)
    yield from _norm("the embeddings' normalization", encoder.embedding_norm, embedded)
    if encoder.embedding_projection is not None:
        yield from _linear("the projection", encoder.embedding_projection, embedded, hidden)
    for index, layer in enumerate(encoder.layers):
        yield from _layer(f"layer {index}", layer, hidden, encoder)
    yield from _norm("the last normalization", encoder.final_norm, hidden)


def _layer(name: str, layer: Layer, hidden: int, encoder: Encoder) -> Iterator[Found]:
    width, wide = encoder.attention_width, layer.up.weight.shape[1]
    if layer.rotation is not None:
        rows, pairs = layer.rotation.cosines.shape
        pairs = min(pairs, encoder.head_width // 2)
        yield f"{name}'s cosines of positions", layer.rotation.cosines, (rows, pairs)
        yield f"{name}'s sines of positions", layer.rotation.sines, (rows, pairs)
    yield from _bias(f"{name}'s relative bias", layer.relative_bias, encoder.heads)
    yield from _linear(f"{name}'s query", layer.query, hidden, width)
    for part, linear in (("key", layer.key), ("value", layer.value)):
        yield from _linear(f"{name}'s {part}", linear, hidden, encoder.key_width)
    yield from _norm(f"{name}'s query normalization", layer.query_norm, encoder.head_width)
    yield from _norm(f"{name}'s key normalization", layer.key_norm, encoder.head_width)
    yield from _linear(f"{name}'s attention output", layer.attention_output, width, hidden)
    yield from _norms(f"{name}'s attention", layer.attention_norms, hidden)
    if layer.gate is not None:
        yield from _linear(f"{name}'s feed-forward gate", layer.gate, hidden, wide)
    yield from _linear(f"{name}'s first feed-forward layer", layer.up, hidden, wide)
    yield from _linear(f"{name}'s second feed-forward layer", layer.down, wide, hidden)
    yield from _norms(f"{name}'s output", layer.feed_forward_norms, hidden)


def _bias(name: str, bias: FloatArray | None, heads: int) -> Iterator[Found]:
    if bias is not None:
        yield name, bias, (heads, bias.shape[1])


def _linear(name: str, linear: Linear, inputs: int, outputs: int) -> Iterator[Found]:
    yield name, linear.weight, (inputs, outputs)
    yield f"{name} (bias)", linear.bias, (outputs,)


def _norms(name: str, norms: Norms, width: int) -> Iterator[Found]:
    for norm in (norms.before, norms.inner, norms.after):
        yield from _norm(f"{name} LayerNorm", norm, width)


def _norm(name: str, norm: AnyNorm | None, width: int) -> Iterator[Found]:
    if norm is None:
        return
    yield name, norm.weight, (width,)
    if isinstance(norm, Norm):
        yield f"{name} (bias)", norm.bias, (width,)
