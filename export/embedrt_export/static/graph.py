"""Builds the graph of a static model.

    token ids -> rows of the table -> their weighted sum -> divided by the tokens counted -> head

The sum is a product of the weights, (1, tokens), with the rows, (tokens, dimension), for each text
by itself: a text has the same bytes in any batch. A text without tokens has the mean zero, as in
the originals.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from embedrt.bundle.graph_rules import INPUT
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.graph.weights import Weights, write_graph
from embedrt_export.head import EMBEDDING, Head
from embedrt_export.heads.head import add_head
from embedrt_export.table import Table

# Tokens that are added up in one product. Each sum is rounded, so that over 20,000 tokens the error
# of a single product is five times what the comparison allows.
BLOCK = 512


def draw(folder: Path, table: Table, head: Head, *, max_tokens: int) -> tuple[Path, int]:
    """Write the graph and its weights to `folder`; return its path and the dimension."""
    with Weights(folder) as weights:
        nodes = Nodes(weights=weights)
        mean = _add_mean(nodes, table, max_tokens)
        embedding, dimension = add_head(nodes, mean, table.dimension, head, reads=EMBEDDING)
        nodes.name_output(embedding)
    return write_graph(folder, nodes.to_model(opset=OPSET, dimension=dimension)), dimension


def _add_mean(nodes: Nodes, table: Table, max_tokens: int) -> str:
    """Add the mean of the token vectors, (batch, dimension)."""
    counted = shares = _add_counted(nodes, table.unknown)
    rows = INPUT
    if table.row_of is not None:
        rows = nodes.add("Gather", nodes.weight("row_of_token", table.row_of), INPUT)
    if table.weights is not None:
        weights = nodes.add("Gather", nodes.weight("token_weights", table.weights), INPUT)
        shares = nodes.add("Mul", shares, weights)
    if table.scales is not None:
        scales = nodes.add("Gather", nodes.weight("row_scales", table.scales), rows)
        shares = nodes.add("Mul", shares, scales)
    vectors = nodes.weight("token_vectors", table.rows)
    add_total = _add_sum if max_tokens <= BLOCK else _add_sum_of_sums
    total = nodes.add("Squeeze", add_total(nodes, vectors, table, rows, shares), nodes.ints(1))
    count = nodes.add("ReduceSum", counted, nodes.ints(1), keepdims=1)
    return nodes.add("Div", total, nodes.add("Max", count, nodes.scalar(1.0)))


def _add_counted(nodes: Nodes, unknown: int | None) -> str:
    """Add 1 for each token that is counted, and 0 for the others, (batch, tokens)."""
    if unknown is None:
        return nodes.add("Expand", nodes.scalar(1.0), nodes.add("Shape", INPUT))
    known = nodes.add("Not", nodes.add("Equal", INPUT, nodes.integer(unknown)))
    return nodes.add("Cast", known, to=TensorProto.FLOAT)


def _add_sum(nodes: Nodes, vectors: str, table: Table, rows: str, shares: str) -> str:
    """Add the sum of each row's vector times its share, (..., tokens) to (..., 1, dimension)."""
    read = nodes.add("Gather", vectors, rows)
    if table.rows.dtype != np.float32:
        read = nodes.add("Cast", read, to=TensorProto.FLOAT)
    return nodes.add("MatMul", nodes.add("Unsqueeze", shares, nodes.ints(-2)), read)


def _add_sum_of_sums(nodes: Nodes, vectors: str, table: Table, rows: str, shares: str) -> str:
    """Add the same sum in blocks of tokens, and the sum of these and of the remaining tokens."""
    tokens = nodes.add("Shape", INPUT, start=1, end=2)
    blocks = nodes.add("Div", tokens, nodes.ints(BLOCK))
    end = nodes.add("Mul", blocks, nodes.ints(BLOCK))
    batch = nodes.add("Shape", INPUT, start=0, end=1)
    shape = nodes.add("Concat", batch, blocks, nodes.ints(BLOCK), axis=0)
    axis = nodes.ints(1)
    first = [nodes.add("Slice", values, nodes.ints(0), end, axis) for values in (rows, shares)]
    whole = [nodes.add("Reshape", values, shape, allowzero=1) for values in first]
    rest = [nodes.add("Slice", values, end, tokens, axis) for values in (rows, shares)]
    sums = nodes.add("Squeeze", _add_sum(nodes, vectors, table, *whole), nodes.ints(2))
    sums = nodes.add("Concat", sums, _add_sum(nodes, vectors, table, *rest), axis=1)
    count = nodes.add("Add", blocks, nodes.ints(1))
    ones = nodes.add("Expand", nodes.scalar(1.0), nodes.add("Concat", nodes.ints(1), count, axis=0))
    return nodes.add("MatMul", ones, sums)
