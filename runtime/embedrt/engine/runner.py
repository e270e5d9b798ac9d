"""The interface for running batches: a graph in ONNX Runtime, or the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_int32
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.engine.huge_pages import Regions
from embedrt.errors import NonFiniteEmbeddingError

TextIds = NDArray[np.int64] | Sequence[NDArray[np.int64]]
"""The token ids of a batch: an array of shape (batch, tokens), or one of (tokens,) for each text.
With a second input of the graph after the ids, (batch, 2, tokens) or (2, tokens)."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """Pauses between the layers of a batch, in which texts run that should not wait for it."""

    wanted: c_int32
    """Not 0 if a pause is wanted. The kernels read it after each layer."""
    use: Callable[[], None]
    """Called in each pause, in the thread of the batch."""


class Runner(Protocol):
    """Runs batches of texts. Thread-safe.

    Each text gives the same bytes alone and in every batch.
    """

    @property
    def name(self) -> str:
        """The engine, for messages."""

    @property
    def dimension(self) -> int | None:
        """Components of a row of the output; None if unknown."""

    @property
    def mixes(self) -> bool:
        """Whether the texts of a batch may have different token counts."""

    def run(self, texts: TextIds) -> NDArray[np.float32]:
        """Run a batch, of equal token counts unless `mixes`.

        Returns (batch, dimension) or (batch, tokens, dimension). Raises NonFiniteEmbeddingError,
        and BundleCorruptError if the batch fails.
        """


def non_finite(batch: str) -> NonFiniteEmbeddingError:
    """Return the error for a batch whose output is not finite; `batch` describes it."""
    return NonFiniteEmbeddingError(
        f"the model gave NaN or infinity for a batch of {batch}; "
        "its weights or its bundle are broken: run embedrt verify"
    )


def stack(texts: TextIds) -> NDArray[np.int64]:
    """Return the ids of texts of equal token count as one array."""
    if isinstance(texts, np.ndarray):
        return texts
    return texts[0][None] if len(texts) == 1 else np.stack(texts)


def count_tokens(texts: TextIds) -> int:
    """Return the number of tokens of all texts."""
    if isinstance(texts, np.ndarray):
        return len(texts) * int(texts.shape[-1])
    return sum(int(ids.shape[-1]) for ids in texts)


class Kernels(Runner, Protocol):
    """The kernels, on one core."""

    def run(self, texts: TextIds, pauses: Pauses | None = None) -> NDArray[np.float32]:
        """Run a batch, see `Runner.run`, with pauses between layers."""

    @property
    def regions(self) -> Regions:
        """The memory of the packed weights, in small pages at first."""

    def on(self, threads: int) -> Runner:
        """Return the same model on several cores, which gives the same bytes."""
