"""The interface of the arithmetic, fp32 or int8, in which an encoder's graph is built."""

from __future__ import annotations

from typing import Protocol

from embedrt_export.encoder import FloatArray, Linear
from embedrt_export.graph.nodes import Nodes


class Arithmetic(Protocol):
    """Adds an encoder's lookups and linear layers in one precision."""

    def add_embedding(self, nodes: Nodes, name: str, table: FloatArray, ids: str) -> str:
        """Add a lookup, ids (batch, tokens) to (batch, tokens, embedded)."""

    def add_linear(self, nodes: Nodes, name: str, linear: Linear, vectors: str) -> str:
        """Add a linear layer, (rows, inputs) to (rows, outputs)."""
