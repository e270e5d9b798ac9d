"""embedrt with the package embedrt-kernels, whose native kernels run int8 bundles."""

from __future__ import annotations

from benchmarks.contenders import Encode, Setup
from embedrt import Embedder

ENVIRONMENT = "embedrt-kernels"
CONTENDERS = {"embedrt int8 with kernels": "embedrt-int8"}


def load(setup: Setup) -> Encode:
    """Load the bundle, in the same way for both purposes; an error if the kernels do not run it."""
    return Embedder.load(setup.artifact, threads=setup.threads, kernels="require").encode
