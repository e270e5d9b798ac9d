"""Graph nodes of poolings over all tokens of a text.

The formulas follow ``sentence_transformers.sentence_transformer.modules.Pooling``.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import TensorProto

from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt_export.graph.nodes import Nodes


def _add_cls(nodes: Nodes, vectors: str) -> str:
    return nodes.add("Gather", vectors, nodes.integer(0), axis=1)


def _add_lasttoken(nodes: Nodes, vectors: str) -> str:
    return nodes.add("Gather", vectors, nodes.integer(-1), axis=1)


def _add_max(nodes: Nodes, vectors: str) -> str:
    return nodes.add("ReduceMax", vectors, nodes.ints(1), keepdims=0)


def _add_mean(nodes: Nodes, vectors: str) -> str:
    return nodes.add("Div", add_token_sum(nodes, vectors), _count(nodes, vectors))


def _add_mean_sqrt_len(nodes: Nodes, vectors: str) -> str:
    total = add_token_sum(nodes, vectors)
    return nodes.add("Div", total, nodes.add("Sqrt", _count(nodes, vectors)))


def _add_weightedmean(nodes: Nodes, vectors: str) -> str:
    """Add a mean with weights 1, 2, 3, ... (Muennighoff 2022, arXiv:2202.08904, section 4.1)."""
    weights = nodes.add("CumSum", _ones(nodes, vectors), nodes.integer(1))
    total = add_weighted_sum(nodes, vectors, weights)
    return nodes.add("Div", total, nodes.add("ReduceSum", weights, nodes.ints(1), keepdims=1))


POOLERS: dict[PoolingMode, Callable[[Nodes, str], str]] = {
    "cls": _add_cls,
    "lasttoken": _add_lasttoken,
    "max": _add_max,
    "mean": _add_mean,
    "mean_sqrt_len": _add_mean_sqrt_len,
    "weightedmean": _add_weightedmean,
}


def add_token_sum(nodes: Nodes, vectors: str) -> str:
    """Add the sum over tokens, (batch, tokens, hidden) to (batch, hidden)."""
    return add_weighted_sum(nodes, vectors, _ones(nodes, vectors))


def add_weighted_sum(nodes: Nodes, vectors: str, weights: str) -> str:
    """Add the weighted sum over tokens, (batch, hidden), as a product with the weights.

    Their shape is (1, tokens) if all texts have the same, and (batch, 1, tokens) otherwise. A
    reduction over the middle axis would round differently in a batch than for a single text.
    """
    return nodes.add("Squeeze", nodes.add("MatMul", weights, vectors), nodes.ints(1))


def _tokens(nodes: Nodes, vectors: str) -> str:
    """Add the number of tokens, (1,)."""
    return nodes.add("Shape", vectors, start=1, end=2)


def _count(nodes: Nodes, vectors: str) -> str:
    return nodes.add("Cast", _tokens(nodes, vectors), to=TensorProto.FLOAT)


def _ones(nodes: Nodes, vectors: str) -> str:
    """Add a matrix of ones, (1, tokens)."""
    shape = nodes.add("Concat", nodes.ints(1), _tokens(nodes, vectors), axis=0)
    return nodes.add("Expand", nodes.scalar(1.0), shape)
