"""Graph nodes of poolings that leave the tokens of the prompt out.

The input ``pooling_mask`` is 0 for the tokens of the prompt, the first of a text, and 1 for all
others. All tokens of a text may belong to the prompt. sentence-transformers then divides by a tiny
number in place of their count, and uses the first token for ``cls``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from embedrt.bundle.manifest import POOLING_MASK
from embedrt.bundle.manifest import Pooling as PoolingMode
from embedrt_export.graph.nodes import Nodes
from embedrt_export.heads.pooling import add_weighted_sum

MASK = POOLING_MASK.name
FEWEST = 1e-9  # what sentence-transformers divides by where no token is pooled


def _add_cls(nodes: Nodes, vectors: str) -> str:
    """Add the vector of the first token that is pooled."""
    tokens = nodes.add("Shape", vectors, start=1, end=2)
    first = nodes.add("Mod", nodes.add("Sub", tokens, _add_count(nodes, MASK)), tokens)
    chosen = nodes.add("Equal", _add_places(nodes, vectors, 0), first)
    return _add_sum(nodes, vectors, chosen)


def _add_lasttoken(nodes: Nodes, vectors: str) -> str:
    shown = nodes.add("Slice", MASK, nodes.ints(-1), nodes.ints(1 << 31), nodes.ints(1))
    last = nodes.add("Gather", vectors, nodes.integer(-1), axis=1)
    return nodes.add("Mul", last, _as_float(nodes, shown))


def _add_max(nodes: Nodes, vectors: str) -> str:
    shown = nodes.add("Cast", MASK, to=TensorProto.BOOL)
    shown = nodes.add("Unsqueeze", shown, nodes.ints(2))
    kept = nodes.add("Where", shown, vectors, nodes.scalar(-np.inf))
    return nodes.add("ReduceMax", kept, nodes.ints(1), keepdims=0)


def _add_mean(nodes: Nodes, vectors: str) -> str:
    return nodes.add("Div", _add_sum(nodes, vectors, MASK), _add_divisor(nodes, MASK))


def _add_mean_sqrt_len(nodes: Nodes, vectors: str) -> str:
    root = nodes.add("Sqrt", _add_divisor(nodes, MASK))
    return nodes.add("Div", _add_sum(nodes, vectors, MASK), root)


def _add_weightedmean(nodes: Nodes, vectors: str) -> str:
    """Add a mean with weights 1, 2, 3, ..., which count from the start of the prompt."""
    weights = nodes.add("Mul", MASK, _add_places(nodes, vectors, 1))
    return nodes.add("Div", _add_sum(nodes, vectors, weights), _add_divisor(nodes, weights))


MASKED_POOLERS: dict[PoolingMode, Callable[[Nodes, str], str]] = {
    "cls": _add_cls,
    "lasttoken": _add_lasttoken,
    "max": _add_max,
    "mean": _add_mean,
    "mean_sqrt_len": _add_mean_sqrt_len,
    "weightedmean": _add_weightedmean,
}


def _add_places(nodes: Nodes, vectors: str, first: int) -> str:
    """Add the places of the tokens of a text, counted from `first`. Shape: (tokens,)."""
    tokens = nodes.add("Gather", nodes.add("Shape", vectors), nodes.integer(1))
    end = nodes.add("Add", tokens, nodes.integer(first))
    return nodes.add("Range", nodes.integer(first), end, nodes.integer(1))


def _add_count(nodes: Nodes, weights: str) -> str:
    """Add the sum of whole weights, which is exact, (batch, tokens) to (batch, 1)."""
    return nodes.add("ReduceSum", weights, nodes.ints(1), keepdims=1)


def _add_divisor(nodes: Nodes, weights: str) -> str:
    """Add the sum of whole weights as float32, at least `FEWEST`: (batch, tokens) to (batch, 1)."""
    return nodes.add("Max", _as_float(nodes, _add_count(nodes, weights)), nodes.scalar(FEWEST))


def _add_sum(nodes: Nodes, vectors: str, weights: str) -> str:
    """Add the sum over tokens with weights (batch, tokens): (batch, hidden)."""
    rows = nodes.add("Unsqueeze", _as_float(nodes, weights), nodes.ints(1))
    return add_weighted_sum(nodes, vectors, rows)


def _as_float(nodes: Nodes, values: str) -> str:
    return nodes.add("Cast", values, to=TensorProto.FLOAT)
