"""Local attention: each token attends to the tokens at most `reach` positions away, on both sides.

No operator skips the scores outside of a window, so long texts are cut into blocks of queries. Each
block attends to its own keys and to those within reach of it, which bounds the memory by the length
of the text times the width of a window. Texts so short that blocks save nothing are one block. The
size of a block depends only on the number of tokens, which all texts of a batch share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from embedrt.bundle.graph_rules import INPUT
from embedrt.bundle.manifest import ATTENTION_MASK
from embedrt_export.graph.nodes import Nodes

SMALLEST_BLOCK = 32  # smaller products are slow
LOWEST = float(np.finfo(np.float32).min)  # finite, so that a row of masked scores is no NaN


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """The values that all layers with the same reach share, by name."""

    queries: str
    """Position of each query, by block: (blocks * block,)."""
    keys: str
    """Position of each key that a block attends to: (blocks * span,)."""
    bias: str
    """Bias on the scores: (batch * blocks, 1, block, span)."""
    query_shape: str
    """Shape of the queries by block: batch * blocks, block, and the rest."""
    key_shape: str
    """Shape of the keys and values by block: batch * blocks, span, and the rest."""
    text_shape: str
    """Shape of the result by text: batch, blocks * block, and the rest."""
    tokens: str
    """Number of tokens, (1,)."""


def add_shown(nodes: Nodes) -> str:
    """Add booleans (batch, tokens): whether the input ``attention_mask`` shows a token."""
    return nodes.add("Cast", ATTENTION_MASK.name, to=TensorProto.BOOL)


def add_windows(nodes: Nodes, reach: int, *, hides: bool = False) -> Windows:
    """Add the values that layers with windows of `reach` tokens on each side share.

    With `hides`, the input ``attention_mask`` hides tokens from all others.
    """
    batch = nodes.add("Shape", INPUT, start=0, end=1)
    tokens = nodes.add("Shape", INPUT, start=1, end=2)
    one = nodes.ints(1)
    size = max(reach, SMALLEST_BLOCK)
    # Beyond this length, the scores of blocks are fewer than those of all pairs of tokens.
    long = nodes.add("Greater", tokens, nodes.ints(size + 2 * reach))
    block = nodes.add("Where", long, nodes.ints(size), tokens)
    margin = nodes.add("Where", long, nodes.ints(reach), nodes.ints(0))
    span = nodes.add("Add", block, nodes.add("Add", margin, margin))
    last = nodes.add("Sub", tokens, one)
    blocks = nodes.add("Div", nodes.add("Add", last, block), block)

    starts = _column(nodes, nodes.add("Mul", _range(nodes, blocks), block))
    query = nodes.add("Add", starts, _range(nodes, block))
    key = nodes.add("Sub", nodes.add("Add", starts, _range(nodes, span)), margin)
    kept = nodes.add("Max", nodes.add("Min", key, last), nodes.ints(0))
    distance = nodes.add(
        "Abs",
        nodes.add(
            "Sub",
            nodes.add("Unsqueeze", query, nodes.ints(1, 3)),
            nodes.add("Unsqueeze", key, nodes.ints(1, 2)),
        ),
    )
    inside = nodes.add(
        "And",
        nodes.add("LessOrEqual", distance, nodes.integer(reach)),
        nodes.add("Unsqueeze", nodes.add("Equal", key, kept), nodes.ints(1, 2)),
    )
    bias = nodes.add("Where", inside, nodes.scalar(0.0), nodes.scalar(LOWEST))
    flat, count = nodes.ints(-1), nodes.add("Mul", batch, blocks)
    queries = nodes.add("Reshape", nodes.add("Min", query, last), flat)
    keys = nodes.add("Reshape", kept, flat)
    bias = nodes.add("Tile", bias, nodes.add("Concat", batch, nodes.ints(1, 1, 1), axis=0))
    if hides:
        shown = nodes.add("Gather", add_shown(nodes), keys, axis=1)
        by_block = nodes.add("Concat", count, nodes.ints(1, 1), span, axis=0)
        bias = nodes.add("Where", nodes.add("Reshape", shown, by_block), bias, nodes.scalar(LOWEST))
    return Windows(
        queries=queries,
        keys=keys,
        bias=bias,
        query_shape=nodes.add("Concat", count, block, flat, axis=0),
        key_shape=nodes.add("Concat", count, span, flat, axis=0),
        text_shape=nodes.add("Concat", batch, nodes.add("Mul", blocks, block), flat, axis=0),
        tokens=tokens,
    )


def add_window_attention(
    nodes: Nodes, windows: Windows, query: str, key: str, value: str, **attributes: float
) -> str:
    """Add local attention, (batch, tokens, width) to the same.

    `attributes` are those of the operator `Attention`: the numbers of heads, and the scale.
    """

    def by_block(vectors: str, positions: str, shape: str) -> str:
        return nodes.add("Reshape", nodes.add("Gather", vectors, positions, axis=1), shape)

    attended = nodes.add(
        "Attention",
        by_block(query, windows.queries, windows.query_shape),
        by_block(key, windows.keys, windows.key_shape),
        by_block(value, windows.keys, windows.key_shape),
        windows.bias,
        **attributes,
    )
    padded = nodes.add("Reshape", attended, windows.text_shape)
    return nodes.add("Slice", padded, nodes.ints(0), windows.tokens, nodes.ints(1))


def _range(nodes: Nodes, count: str) -> str:
    """Add 0, 1, 2, ...: (1,) to (count,)."""
    end = nodes.add("Squeeze", count, nodes.ints(0))
    return nodes.add("Range", nodes.integer(0), end, nodes.integer(1))


def _column(nodes: Nodes, values: str) -> str:
    return nodes.add("Unsqueeze", values, nodes.ints(1))
