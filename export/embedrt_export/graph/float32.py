"""fp32 arithmetic for the encoder's lookups and linear layers.

A product reads a dozen rows of its input at once. Rows whose length is a multiple of 4 KiB start in
the same set of a processor's first cache, which has 8 places on many x86 processors: they evict
each other, and the product takes longer. Models of 1,024 components, and feed-forward layers of
3,072 or 4,096, have such rows. They get a few more columns, which the layer multiplies by zero.
"""

from __future__ import annotations

import numpy as np

from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.graph.layers import add_linear
from embedrt_export.graph.nodes import Nodes

SAME_SET = 4096  # bytes between two addresses that belong to the same set of the cache
MORE_COLUMNS = 8  # half a cache line; more columns cost more than they gain


class Float32:
    """The encoder's lookups and linear layers in fp32."""

    def __init__(self) -> None:
        self.inputs: dict[str, str] = {}
        """Name of the input activation of each linear layer, by layer name."""

    def add_embedding(self, nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
        """Add a lookup, ids (batch, tokens) to (batch, tokens, hidden)."""
        return nodes.add("Gather", nodes.weight(name, table), ids)

    def add_linear(self, nodes: Nodes, name: str, linear: Linear, vectors: str) -> str:
        """Add a linear layer, (rows, inputs) to (rows, outputs)."""
        self.inputs[name] = vectors
        if linear.weight[:, 0].nbytes % SAME_SET == 0:
            linear, vectors = _lengthen_rows(nodes, linear, vectors)
        return add_linear(nodes, name, linear, vectors)


def _lengthen_rows(nodes: Nodes, linear: Linear, vectors: str) -> tuple[Linear, str]:
    """Return the layer and its input with more columns: copies of the first, with weights of 0."""
    first = nodes.add("Slice", vectors, nodes.ints(0), nodes.ints(MORE_COLUMNS), nodes.ints(1))
    weight = np.pad(linear.weight, ((0, MORE_COLUMNS), (0, 0)))
    return Linear(weight, linear.bias), nodes.add("Concat", vectors, first, axis=1)
