"""fp32 arithmetic for the encoder's lookups and linear layers."""

from __future__ import annotations

from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.graph.layers import add_linear
from embedrt_export.graph.nodes import Nodes


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
        return add_linear(nodes, name, linear, vectors)
