"""Causal attention: each token attends to itself and to tokens before it.

`GroupQueryAttention` computes it in blocks, in memory that grows linearly with the text's length,
where the standard `Attention` holds the scores of all pairs of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from embedrt.bundle.graph_rules import INPUT
from embedrt_export.graph.nodes import CONTRIB, Nodes

HEAD_MULTIPLE = 8  # the components of a head must be a multiple of this


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The values that all causal layers share, by name."""

    last: str
    """Index of each text's last token, int32: (batch,)."""
    tokens: str
    """Number of tokens, int32: ()."""


def add_lengths(nodes: Nodes) -> Lengths:
    """Add the lengths that the operator requires, because it supports batches with padding."""
    batch = nodes.add("Shape", INPUT, start=0, end=1)
    tokens = nodes.add("Cast", nodes.add("Shape", INPUT, start=1, end=2), to=TensorProto.INT32)
    one = nodes.weight("one_token", np.array([1], np.int32))
    return Lengths(
        last=nodes.add("Expand", nodes.add("Sub", tokens, one), batch),
        tokens=nodes.add("Squeeze", tokens, nodes.ints(0)),
    )


def add_causal_attention(
    nodes: Nodes, lengths: Lengths, query: str, key: str, value: str, **attributes: float
) -> str:
    """Add causal attention, (batch, tokens, heads * size) to the same.

    `attributes` are those of the operator. `local_window_size` counts the token itself.
    """
    attended, _, _ = nodes.add_many(
        "GroupQueryAttention",
        3,  # the other two are keys and values for generation
        *(query, key, value, "", "", lengths.last, lengths.tokens),
        domain=CONTRIB,
        **attributes,
    )
    return attended
