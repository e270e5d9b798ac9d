"""The report of a run: its work, and the state of the output folder after it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of `embed`."""

    output: str
    rows: int
    """Rows of the source."""
    rows_done: int
    """Rows whose vectors are in the output."""
    rows_run: int
    """Rows that this run embedded."""
    nulls: int
    """Rows in the output without a text."""
    cut: int
    """Texts in the output that were truncated."""
    parts: int
    """Parts of the plan."""
    parts_run: int
    """Parts that this run made; the others existed before, or are missing."""
    tokens: int
    """Tokens that this run computed; equal texts of a part count once."""
    seconds: float
    """Duration of the run, including the planning."""
    files: int
    """Data files of the source."""
    skipped: tuple[str, ...]
    """Files of the source that are not data files."""
    failures: tuple[str, ...]
    """Files and parts that are not embedded, with the reason."""
    interrupted: bool
    """Whether the run was interrupted."""
    digest: str | None
    """Digest of all rows; None if the output is not complete."""
    processors: tuple[str, ...]
    """Kinds of processors that computed the vectors; their results agree to rounding."""
    engines: tuple[str, ...]
    """Engines that computed them: ONNX Runtime, or kernels with their path."""

    @property
    def complete(self) -> bool:
        """Whether the output holds all rows of the source."""
        return self.digest is not None

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and `complete`."""
        return {**asdict(self), "complete": self.complete}
