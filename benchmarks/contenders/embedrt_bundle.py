"""embedrt, used as in its README."""

from __future__ import annotations

from benchmarks.contenders import Encode, Model, Purpose
from embedrt import Embedder

ENVIRONMENT = "embedrt"
CONTENDERS = {"embedrt fp32": "embedrt-fp32", "embedrt int8": "embedrt-int8"}


def load(name: str, model: Model, purpose: Purpose, threads: int) -> Encode:
    """Load the bundle, in the same way for both purposes."""
    del name, purpose
    return Embedder.load(model.artifact, threads=threads).encode
