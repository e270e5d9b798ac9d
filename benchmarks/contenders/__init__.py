"""The libraries that are measured, one module for each library or for several variants of it.

A worker imports a contender's module in the contender's own environment, so the module may import
anything at its top. The harness reads its constants without importing it, so they must be literals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # an import that a contender does not need would count as its start-up time
    import numpy as np
    from numpy.typing import NDArray

Encode = Callable[[list[str]], "NDArray[np.float32]"]
"""Maps texts to vectors of length 1 in the order of the texts. Shape: (texts, dimension)."""

Purpose = Literal["latency", "throughput"]
"""The purpose of a load: one text at a time, or many texts in a call and many callers."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The arguments of `load`."""

    name: str
    """A key of the module's `CONTENDERS`."""
    artifact: Path
    """The folder with the files that this contender runs."""
    max_tokens: int
    """The length to which every contender truncates a text, including special tokens."""
    purpose: Purpose
    threads: int


class Contender(Protocol):
    """The interface of a module in this folder."""

    ENVIRONMENT: str
    """The file ``environments/<this>.txt`` lists the packages that it needs."""
    CONTENDERS: Mapping[str, str]
    """The names in tables and charts, each with the artifact that it runs: see ``preparations``.

    A module may also set ``COMPILES = True`` if its first vector of a shape waits for a compiler.
    """

    def load(self, setup: Setup) -> Encode:
        """Load the model with the best settings for the purpose and number of threads."""
