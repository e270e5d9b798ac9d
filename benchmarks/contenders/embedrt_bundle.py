"""embedrt in ONNX Runtime, used as its README shows."""

from __future__ import annotations

from benchmarks.contenders import Encode, Setup
from embedrt import Embedder

ENVIRONMENT = "embedrt"
CONTENDERS = {"embedrt fp32": "embedrt-fp32", "embedrt int8": "embedrt-int8"}


def load(setup: Setup) -> Encode:
    """Load the bundle, in the same way for both purposes."""
    return Embedder.load(setup.artifact, threads=setup.threads, kernels="off").encode
