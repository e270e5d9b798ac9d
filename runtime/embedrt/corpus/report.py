"""What a run did, and what the output folder holds after it."""

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
    """Rows that this run has embedded."""
    nulls: int
    """Rows in the output without a text."""
    cut: int
    """Texts in the output of which the model takes only a part."""
    parts: int
    """Parts of the plan."""
    parts_run: int
    """Parts that this run has made; the others were there, or are missing."""
    tokens: int
    """Tokens that this run has computed; equal texts of a part count once."""
    seconds: float
    """From reading the source to the end."""
    files: int
    """Data files of the source."""
    skipped: tuple[str, ...]
    """Files of the source that are no data files."""
    failures: tuple[str, ...]
    """Files and parts that are not embedded, with the reason."""
    interrupted: bool
    """Whether the run was asked to stop."""
    digest: str | None
    """Digest of all rows; None if the output is not complete."""
    processors: tuple[str, ...]
    """Kinds of processors that computed the vectors; their results agree to rounding."""
    engines: tuple[str, ...]
    """What computed them: ONNX Runtime, or the paths of the kernels, which agree to rounding."""

    @property
    def complete(self) -> bool:
        """Whether the output holds all rows of the source."""
        return self.digest is not None

    def to_json(self) -> dict[str, Any]:
        """Return all fields, and `complete`."""
        return {**asdict(self), "complete": self.complete}
