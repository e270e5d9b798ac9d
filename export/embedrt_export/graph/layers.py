"""Layers common to encoders and heads."""

from __future__ import annotations

from embedrt_export.encoder import Linear, Norm, RmsNorm
from embedrt_export.graph.nodes import Nodes


def add_linear(nodes: Nodes, name: str, linear: Linear, vectors: str) -> str:
    """Add a linear layer, (rows, inputs) to (rows, outputs)."""
    weight = nodes.weight(f"{name}.weight", linear.weight)
    bias = [nodes.weight(f"{name}.bias", linear.bias)] if linear.bias.any() else []
    return nodes.add("Gemm", vectors, weight, *bias)


def add_norm(nodes: Nodes, name: str, norm: Norm | RmsNorm, vectors: str) -> str:
    """Add a normalization over the last axis. The shape does not change."""
    weight = nodes.weight(f"{name}.weight", norm.weight)
    if isinstance(norm, RmsNorm):
        return nodes.add("RMSNormalization", vectors, weight, axis=-1, epsilon=norm.epsilon)
    bias = nodes.weight(f"{name}.bias", norm.bias)
    return nodes.add("LayerNormalization", vectors, weight, bias, axis=-1, epsilon=norm.epsilon)
