"""Rotary position embedding of queries and keys.

Cosines and sines are constants, computed at export as torch computes them: ONNX Runtime's own round
an element differently depending on its place in the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.bundle.graph_rules import INPUT
from embedrt_export.encoder import FloatArray, Rotation
from embedrt_export.graph.nodes import Nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Angles:
    """The names of the cosines and sines for the tokens of a batch, (batch, tokens, pairs)."""

    cosines: str
    sines: str
    pairs: int
    interleaved: bool


def add_angles(nodes: Nodes, name: str, rotation: Rotation) -> Angles:
    """Add the angles of a batch, once for all layers that share `rotation`."""
    batch = nodes.add("Shape", INPUT, start=0, end=1)
    tokens = nodes.add("Shape", INPUT, start=1, end=2)
    shape = nodes.add("Concat", batch, nodes.ints(1, 1), axis=0)

    def rows(part: str, table: FloatArray) -> str:
        stored = nodes.weight(f"{name}.{part}", table)
        first = nodes.add("Slice", stored, nodes.ints(0), tokens, nodes.ints(0))
        return nodes.add("Expand", first, shape)

    return Angles(
        cosines=rows("cosines", rotation.cosines),
        sines=rows("sines", rotation.sines),
        pairs=rotation.cosines.shape[1],
        interleaved=rotation.interleaved,
    )


def add_rotation(nodes: Nodes, vectors: str, heads: int, angles: Angles) -> str:
    """Add the rotation of queries or keys, (batch, tokens, heads * size), to the same shape."""
    return nodes.add(
        "RotaryEmbedding",
        vectors,
        angles.cosines,
        angles.sines,
        num_heads=heads,
        rotary_embedding_dim=2 * angles.pairs,
        interleaved=int(angles.interleaved),
    )
