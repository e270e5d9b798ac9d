"""Graph nodes of a head: pooling and the modules after it.

The formulas follow ``sentence_transformers.sentence_transformer.modules``. All operators exist
since opset 18, because the head is also appended to traced encoders.
"""

from __future__ import annotations

from embedrt_export.graph.layers import add_linear, add_norm
from embedrt_export.graph.nodes import Nodes
from embedrt_export.head import (
    EMBEDDING,
    TOKENS,
    Dense,
    DenseActivation,
    Head,
    LayerNorm,
    Pooling,
    Truncate,
    places,
)
from embedrt_export.heads.masked_pooling import MASKED_POOLERS
from embedrt_export.heads.pooling import POOLERS

NORMALIZE_EPSILON = 1e-12  # default of torch.nn.functional.normalize
SQRT_2 = 1.4142135623730951


def add_head(
    nodes: Nodes, vectors: str, hidden: int, head: Head, *, reads: str = TOKENS
) -> tuple[str, int]:
    """Add the head's modules; return the embedding's name and dimension.

    The shape of `vectors`, which the head `reads`, is (batch, tokens, hidden), or (batch, hidden)
    if that is the embedding; that of the result is (batch, dimension).
    """
    values, dimension = {reads: vectors}, hidden
    for index, module in enumerate(head):
        name = f"head_{index}"
        source, writes = places(module)
        value = values[source]
        if isinstance(module, Pooling):
            values[writes] = _add_pooling(nodes, value, module)
            dimension = hidden * len(module.modes)
        elif isinstance(module, Dense):
            values[writes] = _add_dense(nodes, name, value, module)
            dimension = module.outputs
        elif isinstance(module, LayerNorm):
            values[writes] = add_norm(nodes, name, module.norm, value)
        elif isinstance(module, Truncate):
            ends = nodes.ints(0), nodes.ints(module.dimension), nodes.ints(1)
            values[writes] = nodes.add("Slice", value, *ends)
            dimension = module.dimension
        else:
            values[writes] = _add_normalize(nodes, value)
    return values[EMBEDDING], dimension


def add_token_head(nodes: Nodes, vectors: str, hidden: int, head: Head) -> tuple[str, int]:
    """Add a head that is applied to each token's vector; return its result and dimension.

    The shape of `vectors` is (batch, tokens, hidden); that of the result has the dimension there.
    """
    shape = nodes.add("Slice", nodes.add("Shape", vectors), nodes.ints(0), nodes.ints(2))
    rows = nodes.add("Reshape", vectors, nodes.ints(-1, hidden))
    result, dimension = add_head(nodes, rows, hidden, head, reads=EMBEDDING)
    by_text = nodes.add("Concat", shape, nodes.ints(dimension), axis=0)
    return nodes.add("Reshape", result, by_text), dimension


def _add_pooling(nodes: Nodes, vectors: str, pooling: Pooling) -> str:
    poolers = POOLERS if pooling.includes_prompt else MASKED_POOLERS
    pooled = [poolers[mode](nodes, vectors) for mode in pooling.modes]
    return pooled[0] if len(pooled) == 1 else nodes.add("Concat", *pooled, axis=-1)


def _add_dense(nodes: Nodes, name: str, embedding: str, module: Dense) -> str:
    dense = add_linear(nodes, name, module.linear, embedding)
    activated = _add_activation(nodes, dense, module.activation)
    if module.residual is None:
        return activated
    if isinstance(module.residual, str):
        return nodes.add("Add", activated, embedding)
    projection = nodes.weight(f"{name}.residual", module.residual)
    return nodes.add("Add", activated, nodes.add("MatMul", embedding, projection))


def _add_activation(nodes: Nodes, dense: str, activation: DenseActivation) -> str:
    if activation == "Identity":
        return dense
    if activation == "GELU":  # composed, because the Gelu operator requires opset 20
        half = nodes.add("Mul", dense, nodes.scalar(0.5))
        error = nodes.add("Erf", nodes.add("Div", dense, nodes.scalar(SQRT_2)))
        return nodes.add("Mul", half, nodes.add("Add", error, nodes.scalar(1.0)))
    return nodes.add({"Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid"}[activation], dense)


def _add_normalize(nodes: Nodes, embedding: str) -> str:
    length = nodes.add("ReduceL2", embedding, nodes.ints(1), keepdims=1)
    return nodes.add("Div", embedding, nodes.add("Max", length, nodes.scalar(NORMALIZE_EPSILON)))
