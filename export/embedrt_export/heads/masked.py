"""Graph nodes of a sparse encoder's head: masked-LM head, pooling and activation.

The formulas follow ``sentence_transformers.sparse_encoder.modules.SpladePooling``. The largest
weight of a word is that of its largest logit, because the activation and the bias do not change the
order: logits are pooled first, and the activation is computed once per text and word.
"""

from __future__ import annotations

from math import log

from embedrt.query_table import QUERY_WEIGHTS
from embedrt_export.graph.fuse import add_activation
from embedrt_export.graph.layers import add_norm
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.vocabulary import VocabularyArithmetic, slices
from embedrt_export.heads.pooling import add_token_sum
from embedrt_export.masked import MaskedHead

TANGENTS = tuple(4.0**power for power in range(1, 9))  # logits are below 4 ** 9
HALLEY_STEPS = 2


def add_masked_head(
    nodes: Nodes, vectors: str, hidden: int, head: MaskedHead, arithmetic: VocabularyArithmetic
) -> str:
    """Add the head, (batch, tokens, hidden) to the weights of all words, (batch, vocabulary)."""
    if head.query_weights is not None:
        nodes.weight(QUERY_WEIGHTS, head.query_weights)  # read by the runtime only
    shape = nodes.add("Slice", nodes.add("Shape", vectors), nodes.ints(0), nodes.ints(2))
    rows = nodes.add("Reshape", vectors, nodes.ints(-1, hidden))
    dense = arithmetic.add_linear(nodes, "masked.dense", head.dense, rows)
    activated = add_activation(nodes, head.activation, dense)
    normed = add_norm(nodes, "masked.norm", head.norm, activated)
    largest = head.pooling.strategy == "max"
    parts = slices(head.vocabulary)
    pooled: list[str] = []
    for index, logits in enumerate(arithmetic.add_decoder(nodes, head.decoder, normed)):
        part = parts[index]
        width = nodes.ints(part.stop - part.start)
        by_text = nodes.add("Reshape", logits, nodes.add("Concat", shape, width, axis=0))
        if largest:
            pooled.append(nodes.add("ReduceMax", by_text, nodes.ints(1), keepdims=0))
        else:
            bias = nodes.weight(f"masked.bias_{index}", head.bias[part])
            weights = _add_weights(nodes, nodes.add("Add", by_text, bias), head)
            pooled.append(add_token_sum(nodes, weights))
    joined = pooled[0] if len(pooled) == 1 else nodes.add("Concat", *pooled, axis=-1)
    if not largest:
        return joined
    bias = nodes.weight("masked.bias", head.bias)
    return _add_weights(nodes, nodes.add("Add", joined, bias), head)


def _add_weights(nodes: Nodes, logits: str, head: MaskedHead) -> str:
    """Add the weights of logits. The shape does not change."""
    weights = add_log1p(nodes, nodes.add("Relu", logits))
    return add_log1p(nodes, weights) if head.pooling.activation == "log1p_relu" else weights


def add_log1p(nodes: Nodes, values: str) -> str:
    """Add log(1 + x) of values from 0 to 4 ** 9, to 2e-7 of its scale. The shape does not change.

    ONNX Runtime's own logarithm rounds an element differently depending on its place in the tensor.
    The least of some tangents is at most 0.3 too large, and each of Halley's steps, which need only
    an exponential, takes the error to its third power.
    """
    whole = nodes.add("Add", values, nodes.scalar(1.0))
    found = values  # the tangent at 1
    for at in TANGENTS:
        line = nodes.add("Mul", values, nodes.scalar(1 / at))
        line = nodes.add("Add", line, nodes.scalar(1 / at + log(at) - 1))
        found = nodes.add("Min", found, line)  # one after the other, to hold few in memory
    for _ in range(HALLEY_STEPS):
        power = nodes.add("Exp", found)
        difference, total = nodes.add("Sub", whole, power), nodes.add("Add", whole, power)
        half = nodes.add("Div", difference, total)
        found = nodes.add("Add", found, nodes.add("Add", half, half))
    return nodes.add("Relu", found)  # rounding may leave it below 0
