"""What is measured. One module a contender, or a few of one family; adding one is adding a file.

A module is loaded only in its own environment, by a worker: it imports what it likes at its top.
The harness reads its two constants without importing it, so they must be literals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # start-up is measured: what a contender does not need must not be imported
    import numpy as np
    from numpy.typing import NDArray

Encode = Callable[[list[str]], "NDArray[np.float32]"]
"""Texts to vectors of length 1, in the texts' order. Shape: (texts, dimension)."""

Purpose = Literal["latency", "throughput"]
"""What the load is tuned for: one text at a time, or many in a call and many callers."""


@dataclass(frozen=True)
class Model:
    """A model's files, and what was prepared of them for one contender."""

    source: Path
    """Folder in the hub's layout."""
    artifact: Path
    """Folder with what this contender runs."""
    max_tokens: int
    """Where every contender cuts a text, special tokens included."""


class Contender(Protocol):
    """What a module in this folder looks like."""

    ENVIRONMENT: str
    """It runs with ``environments/<this>.txt`` installed."""
    CONTENDERS: Mapping[str, str]
    """Names in tables and charts, each with the artifact that it runs: see ``preparations``."""

    def load(self, name: str, model: Model, purpose: Purpose, threads: int) -> Encode:
        """Load at its best settings for the purpose, on so many cores."""
