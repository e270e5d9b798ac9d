"""Full attention: each token attends to all tokens.

The standard `Attention` is faster on short texts. `MultiHeadAttention` computes the scores in
blocks, in memory that grows linearly with the text's length.
"""

from __future__ import annotations

from embedrt_export.graph.nodes import CONTRIB, Nodes


def add_full_attention(
    nodes: Nodes, query: str, key: str, value: str, *, heads: int, key_heads: int, scale: float
) -> str:
    """Add full attention in blocks, (batch, tokens, heads * size) to the same."""
    repeated = [_repeat_heads(nodes, vectors, heads, key_heads) for vectors in (key, value)]
    return nodes.add(
        "MultiHeadAttention", query, *repeated, num_heads=heads, scale=scale, domain=CONTRIB
    )


def _repeat_heads(nodes: Nodes, vectors: str, heads: int, key_heads: int) -> str:
    """Repeat the heads of keys or values for the query heads that share them."""
    if heads == key_heads:
        return vectors
    by_head = nodes.add("Reshape", vectors, nodes.ints(0, 0, key_heads, 1, -1))
    repeated = nodes.add("Expand", by_head, nodes.ints(1, 1, 1, heads // key_heads, 1))
    return nodes.add("Reshape", repeated, nodes.ints(0, 0, -1))
