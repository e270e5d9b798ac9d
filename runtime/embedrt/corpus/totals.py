"""What a set of parts adds up to."""

from __future__ import annotations

from typing import Any, Self

from embedrt.corpus.digest import add_digests, read_digest, spell_digest
from embedrt.corpus.merge import MergedFacts
from embedrt.corpus.output import PartFacts


class Totals:
    """Sums over parts. The order in which they are added does not matter."""

    def __init__(self) -> None:
        self.parts = 0
        self.rows = 0
        self.nulls = 0
        self.cut = 0
        self._digest = 0
        self._processors: set[str] = set()

    @property
    def digest(self) -> str:
        """Digest of all rows, as 64 hexadecimal digits."""
        return spell_digest(self._digest)

    @property
    def processors(self) -> tuple[str, ...]:
        """Kinds of processors that computed the vectors."""
        return tuple(sorted(self._processors))

    def add_part(self, facts: PartFacts) -> None:
        """Add one part."""
        self._add(1, facts.rows, facts.nulls, facts.cut, facts.digest, {facts.processor})

    def add_merged(self, facts: MergedFacts) -> None:
        """Add the parts of a merged file."""
        processors = set(facts.processors)
        self._add(len(facts.parts), facts.rows, facts.nulls, facts.cut, facts.digest, processors)

    def add(self, other: Totals) -> None:
        """Add other totals."""
        self._add(
            other.parts, other.rows, other.nulls, other.cut, other.digest, set(other.processors)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the sums by name."""
        return {
            "parts": self.parts,
            "rows": self.rows,
            "nulls": self.nulls,
            "cut": self.cut,
            "digest": self.digest,
            "processors": list(self.processors),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the totals that `to_json` has spelled."""
        totals = cls()
        parts, rows, nulls, cut = (content[name] for name in ("parts", "rows", "nulls", "cut"))
        totals._add(parts, rows, nulls, cut, content["digest"], set(content["processors"]))
        return totals

    def _add(
        self, parts: int, rows: int, nulls: int, cut: int, digest: str, processors: set[str]
    ) -> None:
        self.parts += parts
        self.rows += rows
        self.nulls += nulls
        self.cut += cut
        self._digest = add_digests([self._digest, read_digest(digest)])
        self._processors |= processors
