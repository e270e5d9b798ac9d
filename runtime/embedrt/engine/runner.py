"""What runs batches: a graph in ONNX Runtime, or the kernels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Runner(Protocol):
    """Runs batches of texts of equal token count. Thread-safe.

    Each text gives the same bytes alone and in every batch.
    """

    @property
    def name(self) -> str:
        """What runs, for people."""

    @property
    def dimension(self) -> int | None:
        """Components of a row of the output; None if unknown."""

    def run(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Run a batch, (batch, tokens) to (batch, dimension) or (batch, tokens, dimension).

        Raises NonFiniteEmbeddingError, and BundleCorruptError if the batch fails.
        """


class Kernels(Runner, Protocol):
    """The kernels, on one core."""

    def on(self, threads: int) -> Runner:
        """Return the same model on several cores, which gives the same bytes."""
