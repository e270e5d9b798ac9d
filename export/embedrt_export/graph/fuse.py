"""Builds an encoder's graph from its weights, without tracing.

The graph runs as written here, because the runtime disables ONNX Runtime's graph optimizer. The
operators were chosen by latency on x86: separate `Add` and `LayerNormalization` are faster than
`SkipLayerNormalization`, a bias in `Gemm` is faster than `BiasGelu`, and one packed projection with
the standard `Attention` is faster than the contributed operators. The exception are long texts:
`Attention` holds the scores of all pairs of tokens, 3 GB for 8,192 tokens and 12 heads, where the
contributed `MultiHeadAttention` computes them in blocks (Dao et al. 2022, arXiv:2205.14135). It
does not do so with a bias on the scores.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from onnx import TensorProto

from embedrt.bundle.graph_rules import INPUT
from embedrt_export.encoder import Activation, Encoder, FloatArray, Layer, Linear
from embedrt_export.graph.layers import add_norm
from embedrt_export.graph.nodes import Nodes

OPSET = 23  # the first with Attention
CONTRIB = "com.microsoft"


class Arithmetic(Protocol):
    """Adds an encoder's lookups and linear layers in one precision."""

    def add_embedding(self, nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
        """Add a lookup, ids (batch, tokens) to (batch, tokens, hidden)."""

    def add_linear(self, nodes: Nodes, name: str, linear: Linear, vectors: str) -> str:
        """Add a linear layer, (rows, inputs) to (rows, outputs)."""


def add_encoder(nodes: Nodes, encoder: Encoder, arithmetic: Arithmetic) -> str:
    """Add the encoder; return the name of its token vectors, (batch, tokens, hidden)."""
    shape = nodes.add("Shape", INPUT)  # (2,): batch, tokens
    tokens = nodes.add("Gather", shape, nodes.integer(1))
    embedded = nodes.add(
        "Add",
        arithmetic.add_embedding(nodes, "word_embeddings", encoder.word_embeddings, INPUT),
        _add_positions(nodes, encoder, tokens),
    )
    bias = _add_relative_bias(nodes, encoder, tokens)
    by_token = nodes.ints(-1, encoder.hidden)
    packed = nodes.add("Concat", shape, nodes.ints(3 * encoder.hidden), axis=0)
    # Shape (batch * tokens, hidden), because Gemm, which adds the bias, requires a matrix.
    vectors = nodes.add("Reshape", embedded, by_token)
    vectors = add_norm(nodes, "embedding_norm", encoder.embedding_norm, vectors)
    for index, layer in enumerate(encoder.layers):
        name = f"layer_{index}"
        attended = _add_attention(
            nodes, arithmetic, name, layer, vectors, packed, by_token, bias, encoder
        )
        vectors = add_norm(
            nodes,
            f"{name}.attention_norm",
            layer.attention_norm,
            nodes.add("Add", attended, vectors),
        )
        widened = arithmetic.add_linear(nodes, f"{name}.up", layer.up, vectors)
        activated = _add_activation(nodes, encoder.activation, widened)
        narrowed = arithmetic.add_linear(nodes, f"{name}.down", layer.down, activated)
        vectors = add_norm(
            nodes, f"{name}.output_norm", layer.output_norm, nodes.add("Add", narrowed, vectors)
        )
    by_text = nodes.add("Concat", shape, nodes.ints(encoder.hidden), axis=0)
    return nodes.add("Reshape", vectors, by_text)


def _add_positions(nodes: Nodes, encoder: Encoder, tokens: str) -> str:
    """Add the position embeddings, (tokens, hidden) or (batch, tokens, hidden)."""
    table = nodes.weight("position_embeddings", encoder.position_rows)
    if encoder.padding_id is None:
        end = nodes.add("Unsqueeze", tokens, nodes.ints(0))
        return nodes.add("Slice", table, nodes.ints(0), end, nodes.ints(0))
    counted = nodes.add(
        "Cast",
        nodes.add("Not", nodes.add("Equal", INPUT, nodes.integer(encoder.padding_id))),
        to=TensorProto.INT64,
    )
    position = nodes.add("Mul", nodes.add("CumSum", counted, nodes.integer(1)), counted)
    return nodes.add("Gather", table, position)


def _add_relative_bias(nodes: Nodes, encoder: Encoder, tokens: str) -> str:
    """Add the bias on attention scores, once for all layers: (1, heads, tokens, tokens).

    Returns an empty name, which marks an absent input in ONNX, if the encoder has no such bias.
    """
    if encoder.relative_bias is None:
        return ""
    table = nodes.weight("relative_bias", encoder.relative_bias)
    position = nodes.add("Range", nodes.integer(0), tokens, nodes.integer(1))
    distance = nodes.add(
        "Sub",
        nodes.add("Unsqueeze", position, nodes.ints(0)),
        nodes.add("Unsqueeze", position, nodes.ints(1)),
    )
    row = nodes.add("Add", distance, nodes.integer(encoder.positions - 1))
    return nodes.add("Unsqueeze", nodes.add("Gather", table, row, axis=1), nodes.ints(0))


def _add_attention(
    nodes: Nodes,
    arithmetic: Arithmetic,
    name: str,
    layer: Layer,
    vectors: str,
    packed: str,
    by_token: str,
    bias: str,
    encoder: Encoder,
) -> str:
    """Add self-attention and its output projection, (batch * tokens, hidden) to the same.

    Two biases are eliminated without changing the result. The key bias adds a constant to all
    scores of a query, which softmax cancels. The value bias is folded into the output bias, because
    the attention weights sum to 1.
    """
    projection = Linear(
        np.concatenate([layer.query.weight, layer.key.weight, layer.value.weight], axis=1),
        np.concatenate(
            [layer.query.bias, np.zeros_like(layer.key.bias), np.zeros_like(layer.value.bias)]
        ),
    )
    # A product of a transposed view would round differently.
    by_input = np.ascontiguousarray(layer.attention_output.weight)
    output = Linear(by_input, layer.attention_output.bias + layer.value.bias @ by_input)
    projected = arithmetic.add_linear(nodes, f"{name}.query_key_value", projection, vectors)
    query, key, value = nodes.add_many(
        "Split", 3, nodes.add("Reshape", projected, packed), axis=-1, num_outputs=3
    )
    heads = encoder.heads
    if encoder.is_long and not bias:
        attended = nodes.add(
            "MultiHeadAttention", query, key, value, num_heads=heads, domain=CONTRIB
        )
    else:
        inputs = [query, key, value, bias] if bias else [query, key, value]
        attended = nodes.add("Attention", *inputs, q_num_heads=heads, kv_num_heads=heads)
    flat = nodes.add("Reshape", attended, by_token)
    return arithmetic.add_linear(nodes, f"{name}.attention_output", output, flat)


def _add_activation(nodes: Nodes, activation: Activation, vectors: str) -> str:
    if activation == "relu":
        return nodes.add("Relu", vectors)
    return nodes.add("Gelu", vectors, approximate="tanh" if activation == "gelu_tanh" else "none")
