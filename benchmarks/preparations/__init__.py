"""What contenders run, made once of each model and kept: exports, quantized copies, conversions.

Like a contender's, a preparation's module is loaded only in its environment, and its constants are
read without importing it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Preparation(Protocol):
    """What a module in this folder looks like."""

    ENVIRONMENT: str
    """It runs with ``environments/<this>.txt`` installed, or as ``harness`` where we run."""
    ARTIFACTS: tuple[str, ...]
    """What it makes: names of folders that hold everything that a contender reads."""
    NEEDS: str
    """The artifact that it is made of; none for the empty string."""

    def prepare(self, artifact: str, model: str, needed: Path, output: Path) -> None:
        """Make the artifact in the empty folder `output`."""
