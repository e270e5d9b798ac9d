"""Builds an encoder's graph from its weights, without tracing.

The graph runs as written here, because the runtime disables ONNX Runtime's graph optimizer. The
operators were chosen by latency on x86: separate `Add` and `LayerNormalization` are faster than
`SkipLayerNormalization`, a bias in `Gemm` is faster than `BiasGelu`, and one packed projection with
the standard `Attention` is faster than the contributed operators. Long texts are the exception:
`Attention` holds the scores of all pairs of tokens, 3 GB for 8,192 tokens and 12 heads, while the
contributed `MultiHeadAttention` computes them in blocks (Dao et al. 2022, arXiv:2205.14135). It
does not support blocks with a bias on the scores, and a graph without loops cannot compute blocks
itself. Encoders with a relative bias therefore hold all scores. At their usual maximum of 512
tokens, these take 13 MB for 12 heads. At 2,048 tokens, they would take 201 MB, but no published
model of these families is known to have this maximum.
"""

from __future__ import annotations

from onnx import TensorProto

from embedrt.bundle.graph_rules import INPUT
from embedrt.bundle.manifest import TOKEN_TYPES
from embedrt_export.encoder import Activation, AnyNorm, Encoder, Layer, Norms
from embedrt_export.graph.arithmetic import Arithmetic
from embedrt_export.graph.attention import SelfAttention, is_first_enough
from embedrt_export.graph.layers import add_norm
from embedrt_export.graph.nodes import Nodes

OPSET = 23  # the first with Attention


def add_encoder(nodes: Nodes, encoder: Encoder, arithmetic: Arithmetic) -> str:
    """Add the encoder; return the name of its token vectors, (batch, tokens, hidden).

    With `first_only`, the last layer gives those of the first tokens alone, (batch, 1, hidden),
    unless it attends locally or causally.
    """
    shape = nodes.add("Shape", INPUT)  # (2,): batch, tokens
    attention = SelfAttention(nodes, encoder, arithmetic, shape)
    vectors = _add_embeddings(nodes, encoder, arithmetic, shape)
    first_only = False
    for index, layer in enumerate(encoder.layers):
        name = f"layer_{index}"
        norms = layer.attention_norms
        read = _add_norm_if(nodes, f"{name}.attention_norm_before", norms.before, vectors)
        first_only = index == len(encoder.layers) - 1 and is_first_enough(encoder, layer)
        attended = attention.add(name, layer, read, first_only=first_only)
        if first_only:
            vectors = _add_first(
                nodes, nodes.add("Reshape", vectors, _add_shape(nodes, encoder, shape))
            )
        vectors = _add_residual(nodes, f"{name}.attention_norm", norms, attended, vectors)
        norms = layer.feed_forward_norms
        read = _add_norm_if(nodes, f"{name}.output_norm_before", norms.before, vectors)
        fed = _add_feed_forward(nodes, arithmetic, name, layer, encoder.activation, read)
        vectors = _add_residual(nodes, f"{name}.output_norm", norms, fed, vectors)
    vectors = _add_norm_if(nodes, "final_norm", encoder.final_norm, vectors)
    by_text = nodes.ints(-1, 1, encoder.hidden) if first_only else _add_shape(nodes, encoder, shape)
    return nodes.add("Reshape", vectors, by_text)


def _add_shape(nodes: Nodes, encoder: Encoder, shape: str) -> str:
    """Add the shape of the token vectors of a batch: (batch, tokens, hidden)."""
    return nodes.add("Concat", shape, nodes.ints(encoder.hidden), axis=0)


def _add_first(nodes: Nodes, vectors: str) -> str:
    """Add the vectors of the first tokens, (batch, tokens, hidden) to (batch, hidden)."""
    return nodes.add("Gather", vectors, nodes.integer(0), axis=1)


def _add_norm_if(nodes: Nodes, name: str, norm: AnyNorm | None, vectors: str) -> str:
    return vectors if norm is None else add_norm(nodes, name, norm, vectors)


def _add_residual(nodes: Nodes, name: str, norms: Norms, result: str, vectors: str) -> str:
    """Add the sum of a part's input and result, with the norms around it."""
    inner = _add_norm_if(nodes, f"{name}_inner", norms.inner, result)
    return _add_norm_if(nodes, name, norms.after, nodes.add("Add", inner, vectors))


def _add_embeddings(nodes: Nodes, encoder: Encoder, arithmetic: Arithmetic, shape: str) -> str:
    """Add the token vectors that the first layer reads, (batch * tokens, hidden)."""
    embedded = arithmetic.add_embedding(nodes, "word_embeddings", encoder.word_embeddings, INPUT)
    if encoder.embedding_scale is not None:
        embedded = nodes.add("Mul", embedded, nodes.scalar(encoder.embedding_scale))
    if encoder.types.given and encoder.token_types is not None:
        types = nodes.weight("token_types", encoder.token_types)
        embedded = nodes.add("Add", embedded, nodes.add("Gather", types, TOKEN_TYPES.name))
    positions = _add_positions(nodes, encoder, shape)
    if positions:
        embedded = nodes.add("Add", embedded, positions)
    # A matrix, because Gemm, which adds the bias of a linear layer, requires one.
    vectors = nodes.add("Reshape", embedded, nodes.ints(-1, encoder.word_embeddings.shape[1]))
    vectors = _add_norm_if(nodes, "embedding_norm", encoder.embedding_norm, vectors)
    if encoder.embedding_projection is None:
        return vectors
    return arithmetic.add_linear(
        nodes, "embedding_projection", encoder.embedding_projection, vectors
    )


def _add_positions(nodes: Nodes, encoder: Encoder, shape: str) -> str:
    """Add the embeddings by position, (1 or tokens, embedded) or (batch, tokens, embedded).

    Returns an empty name if there are none.
    """
    rows = encoder.position_rows
    if rows is None:
        return ""
    table = nodes.weight("position_embeddings", rows)
    if len(rows) == 1:
        return table
    if encoder.padding_id is None:
        end = nodes.add("Slice", shape, nodes.ints(1), nodes.ints(2))
        return nodes.add("Slice", table, nodes.ints(0), end, nodes.ints(0))
    counted = nodes.add(
        "Cast",
        nodes.add("Not", nodes.add("Equal", INPUT, nodes.integer(encoder.padding_id))),
        to=TensorProto.INT64,
    )
    position = nodes.add("Mul", nodes.add("CumSum", counted, nodes.integer(1)), counted)
    return nodes.add("Gather", table, position)


def _add_feed_forward(
    nodes: Nodes,
    arithmetic: Arithmetic,
    name: str,
    layer: Layer,
    activation: Activation,
    vectors: str,
) -> str:
    """Add a feed-forward layer, (rows, hidden) to the same."""
    up = arithmetic.add_linear(nodes, f"{name}.up", layer.up, vectors)
    if layer.gate is None:
        inner = add_activation(nodes, activation, up)
    else:
        gate = arithmetic.add_linear(nodes, f"{name}.gate", layer.gate, vectors)
        inner = nodes.add("Mul", add_activation(nodes, activation, gate), up)
    return arithmetic.add_linear(nodes, f"{name}.down", layer.down, inner)


def add_activation(nodes: Nodes, activation: Activation, vectors: str) -> str:
    """Add an activation. The shape does not change."""
    if activation == "relu":
        return nodes.add("Relu", vectors)
    if activation == "silu":
        return nodes.add("Mul", vectors, nodes.add("Sigmoid", vectors))
    return nodes.add("Gelu", vectors, approximate="tanh" if activation == "gelu_tanh" else "none")
