"""Self-attention: projections, norms of heads, rotary positions, biases, windows, causality."""

from __future__ import annotations

from typing import Any

import numpy as np

from embedrt.bundle.graph_rules import INPUT
from embedrt.errors import UnsupportedModelError
from embedrt_export.encoder import Encoder, FloatArray, Layer, Linear, RmsNorm, Rotation
from embedrt_export.graph.arithmetic import Arithmetic
from embedrt_export.graph.causal import Lengths, add_causal_attention, add_lengths
from embedrt_export.graph.full import add_full_attention
from embedrt_export.graph.layers import add_norm
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.rotary import Angles, add_angles, add_rotation
from embedrt_export.graph.windows import (
    LOWEST,
    Windows,
    add_shown,
    add_window_attention,
    add_windows,
)


class SelfAttention:
    """Adds the self-attention of an encoder's layers; values that layers share are added once."""

    def __init__(self, nodes: Nodes, encoder: Encoder, arithmetic: Arithmetic, shape: str) -> None:
        """Add the values that all layers share; `shape` is the name of (batch, tokens)."""
        self._nodes = nodes
        self._encoder = encoder
        self._arithmetic = arithmetic
        self._angles: dict[int, Angles] = {}
        self._windows: dict[int, Windows] = {}
        width = encoder.attention_width + 2 * encoder.key_width
        self._by_text = nodes.add("Concat", shape, nodes.ints(width), axis=0)
        self._by_token = nodes.ints(-1, encoder.attention_width)
        self._lengths: Lengths | None = None
        self._distances = ""
        self._has_own_bias = encoder.layers[0].relative_bias is not None
        shared = encoder.relative_bias
        self._bias = "" if self._has_own_bias else self._add_bias("relative_bias", shared)

    def add(self, name: str, layer: Layer, vectors: str, *, first_only: bool = False) -> str:
        """Add a layer's attention and output projection, (batch * tokens, hidden) to the same.

        With `first_only`, of the first tokens alone, to (batch, hidden).
        """
        nodes, encoder = self._nodes, self._encoder
        width, key_width = encoder.attention_width, encoder.key_width
        key_heads = encoder.key_heads or encoder.heads
        projection, output = _fold_biases(encoder, layer)
        projected = self._arithmetic.add_linear(
            nodes, f"{name}.query_key_value", projection, vectors
        )
        widths = nodes.ints(width, key_width, key_width)
        query, key, value = nodes.add_many(
            "Split", 3, nodes.add("Reshape", projected, self._by_text), widths, axis=-1
        )
        query = self._add_position(f"{name}.query", query, encoder.heads, layer, layer.query_norm)
        key = self._add_position(f"{name}.key", key, key_heads, layer, layer.key_norm)
        bias = self._bias
        if self._has_own_bias:
            bias = self._add_bias(f"{name}.relative_bias", layer.relative_bias)
        if first_only:
            query = _add_first(nodes, query, axis=1)
            bias = bias and _add_first(nodes, bias, axis=2)
        attended = self._attend(layer, query, key, value, bias)
        flat = nodes.add("Reshape", attended, self._by_token)
        return self._arithmetic.add_linear(nodes, f"{name}.attention_output", output, flat)

    def _attend(self, layer: Layer, query: str, key: str, value: str, bias: str) -> str:
        """Add the attention of a layer, (batch, tokens, width) to the same."""
        nodes, encoder = self._nodes, self._encoder
        key_heads = encoder.key_heads or encoder.heads
        scale = encoder.scale or encoder.head_width**-0.5
        if encoder.causal:
            if encoder.hides_tokens:
                raise UnsupportedModelError(
                    "its queries are expanded with tokens that are not attended to, which "
                    "embedrt does not support in decoders"
                )
            if self._lengths is None:
                self._lengths = add_lengths(nodes)
            return add_causal_attention(
                nodes,
                self._lengths,
                query,
                key,
                value,
                num_heads=encoder.heads,
                kv_num_heads=key_heads,
                scale=scale,
                local_window_size=-1 if layer.reach is None else layer.reach + 1,
            )
        attributes: dict[str, Any] = {"q_num_heads": encoder.heads, "kv_num_heads": key_heads}
        if encoder.scale is not None:
            attributes["scale"] = encoder.scale
        if layer.reach is not None:
            windows = self._add_windows(layer.reach)
            return add_window_attention(nodes, windows, query, key, value, **attributes)
        if bias:
            return nodes.add("Attention", query, key, value, bias, **attributes)
        if not encoder.is_long:
            return nodes.add("Attention", query, key, value, **attributes)
        return add_full_attention(
            nodes, query, key, value, heads=encoder.heads, key_heads=key_heads, scale=scale
        )

    def _add_position(
        self, name: str, vectors: str, heads: int, layer: Layer, norm: RmsNorm | None
    ) -> str:
        """Add the normalization and rotation of each head, (batch, tokens, heads * size)."""
        nodes = self._nodes
        if norm is not None:
            by_head = nodes.add("Reshape", vectors, nodes.ints(0, 0, heads, -1))
            normed = add_norm(nodes, f"{name}_norm", norm, by_head)
            vectors = nodes.add("Reshape", normed, nodes.ints(0, 0, -1))
        if layer.rotation is None:
            return vectors
        return add_rotation(nodes, vectors, heads, self._add_angles(layer.rotation))

    def _add_angles(self, rotation: Rotation) -> Angles:
        if id(rotation) not in self._angles:
            name = f"rotation_{len(self._angles)}"
            self._angles[id(rotation)] = add_angles(self._nodes, name, rotation)
        return self._angles[id(rotation)]

    def _add_windows(self, reach: int) -> Windows:
        if reach + 1 < self._encoder.hidden_within:
            raise UnsupportedModelError(
                f"its queries are expanded to {self._encoder.hidden_within} tokens that do not "
                f"attend to each other, beyond the encoder's window of {reach} tokens on each side"
            )
        if reach not in self._windows:
            self._windows[reach] = add_windows(self._nodes, reach, hides=self._encoder.hides_tokens)
        return self._windows[reach]

    def _add_bias(self, name: str, table: FloatArray | None) -> str:
        """Add the bias on attention scores; an empty name if there is none.

        Its shape is (1, heads, tokens, tokens), or (batch, 1 or heads, tokens, tokens) with hidden
        tokens.
        """
        nodes = self._nodes
        relative = "" if table is None else self._add_relative_bias(name, table)
        if not self._encoder.hides_tokens:
            return relative
        shown = nodes.add("Unsqueeze", add_shown(nodes), nodes.ints(1, 2))
        hidden = nodes.add("Where", shown, nodes.scalar(0.0), nodes.scalar(LOWEST))
        if relative:
            return nodes.add("Add", relative, hidden)
        tokens = nodes.add("Shape", INPUT, start=1, end=2)
        by_query = nodes.add("Concat", nodes.ints(1, 1), tokens, nodes.ints(1), axis=0)
        return nodes.add("Expand", hidden, by_query)

    def _add_relative_bias(self, name: str, table: FloatArray) -> str:
        """Add the relative bias of all layers, or of one: (1, heads, tokens, tokens)."""
        nodes, furthest = self._nodes, table.shape[1] // 2
        by_distance = nodes.weight(name, table)
        if not self._distances:
            self._distances = _add_distances(nodes, self._encoder.positions, furthest)
        by_pair = nodes.add("Gather", by_distance, self._distances, axis=1)
        return nodes.add("Unsqueeze", by_pair, nodes.ints(0))


def is_first_enough(encoder: Encoder, layer: Layer) -> bool:
    """Whether a last layer may compute the first token's vector alone."""
    return encoder.first_only and not encoder.causal and layer.reach is None


def _add_first(nodes: Nodes, values: str, *, axis: int) -> str:
    return nodes.add("Slice", values, nodes.ints(0), nodes.ints(1), nodes.ints(axis))


def _fold_biases(encoder: Encoder, layer: Layer) -> tuple[Linear, Linear]:
    """Return the packed projection of queries, keys and values, and the output projection.

    Two biases are eliminated without changing the result. The value bias is folded into the output
    bias, because the attention weights sum to 1. Without rotation or norm, the key bias adds a
    constant to all scores of a query, which softmax cancels.
    """
    query, key, value, output = layer.query, layer.key, layer.value, layer.attention_output
    plain = layer.rotation is None and layer.key_norm is None
    key_bias = np.zeros_like(key.bias) if plain else key.bias
    projection = Linear(
        np.concatenate([query.weight, key.weight, value.weight], axis=1),
        np.concatenate([query.bias, key_bias, np.zeros_like(value.bias)]),
    )
    by_input = np.ascontiguousarray(output.weight)  # a transposed view would round differently
    bias = by_query_head(encoder, value.bias)
    return projection, Linear(by_input, output.bias + bias @ by_input)


def by_query_head(encoder: Encoder, values: FloatArray) -> FloatArray:
    """Repeat the values of the channels of key heads for the query heads that share them."""
    heads = encoder.key_heads or encoder.heads
    repeated = np.repeat(values.reshape(heads, -1), encoder.heads // heads, axis=0)
    return repeated.reshape(encoder.attention_width)


def _add_distances(nodes: Nodes, positions: int | None, furthest: int) -> str:
    """Add key position - query position + `furthest`, as an index: (tokens, tokens)."""
    tokens = nodes.add("Gather", nodes.add("Shape", INPUT), nodes.integer(1))
    position = nodes.add("Range", nodes.integer(0), tokens, nodes.integer(1))
    distance = nodes.add(
        "Sub",
        nodes.add("Unsqueeze", position, nodes.ints(0)),
        nodes.add("Unsqueeze", position, nodes.ints(1)),
    )
    if positions is None or furthest < positions - 1:
        nearest = nodes.add("Max", distance, nodes.integer(-furthest))
        distance = nodes.add("Min", nearest, nodes.integer(furthest))
    return nodes.add("Add", distance, nodes.integer(furthest))
