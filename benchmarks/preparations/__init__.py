"""Artifacts that contenders run: exports, quantized copies, conversions.

Each is made once for a model, in the environment that can make it, and kept. As in `contenders`,
the harness reads a module's constants without importing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Preparation(Protocol):
    """The interface of a module in this folder.

    A module may also set ``OF_THIS_CHECKOUT = True`` if it uses embedrt's own code: its artifacts
    are made again when that code changes.
    """

    ENVIRONMENT: str
    """The file ``environments/<this>.txt``, or ``harness`` for the interpreter of the harness."""
    ARTIFACTS: Mapping[str, str]
    """Names of the folders that it makes, each with the artifact that it is made from, if any."""

    def prepare(self, artifact: str, model: str, needed: Path, output: Path) -> None:
        """Make the artifact in `output`, an empty folder, from the artifact in `needed`."""
