"""The totals of a set of parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from embedrt.corpus.digest import add_digests, read_digest, spell_digest
from embedrt.corpus.merge import MergedFacts
from embedrt.corpus.output import ONNX_RUNTIME, PartFacts


class Totals:
    """Sums over parts. The order in which they are added does not matter."""

    def __init__(self) -> None:
        self.parts = 0
        self.rows = 0
        self.nulls = 0
        self.cut = 0
        self._digest = 0
        self._processors: set[str] = set()
        self._engines: set[str] = set()

    @property
    def digest(self) -> str:
        """Digest of all rows, as 64 hexadecimal digits."""
        return spell_digest(self._digest)

    @property
    def processors(self) -> tuple[str, ...]:
        """Kinds of processors that computed the vectors."""
        return tuple(sorted(self._processors))

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines that computed them: ONNX Runtime, or kernels and their path."""
        return tuple(sorted(self._engines))

    def add_part(self, facts: PartFacts) -> None:
        """Add one part."""
        self._add(1, facts, {facts.processor}, {facts.engine})

    def add_merged(self, facts: MergedFacts) -> None:
        """Add the parts of a merged file."""
        self._add(len(facts.parts), facts, facts.processors, facts.engines)

    def add(self, other: Totals) -> None:
        """Add other totals."""
        self._add(other.parts, other, other.processors, other.engines)

    def to_json(self) -> dict[str, Any]:
        """Return the sums by name."""
        return {
            "parts": self.parts,
            "rows": self.rows,
            "nulls": self.nulls,
            "cut": self.cut,
            "digest": self.digest,
            "processors": list(self.processors),
            "engines": list(self.engines),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the totals from the result of `to_json`."""
        totals = cls()
        totals.rows, totals.nulls, totals.cut = (content[name] for name in ("rows", "nulls", "cut"))
        totals.parts, totals._digest = content["parts"], read_digest(content["digest"])
        totals._processors = set(content["processors"])
        totals._engines = set(content.get("engines", [ONNX_RUNTIME]))
        return totals

    def _add(
        self,
        parts: int,
        sums: PartFacts | MergedFacts | Totals,
        processors: Iterable[str],
        engines: Iterable[str],
    ) -> None:
        self.parts += parts
        self.rows += sums.rows
        self.nulls += sums.nulls
        self.cut += sums.cut
        self._digest = add_digests([self._digest, read_digest(sums.digest)])
        self._processors.update(processors)
        self._engines.update(engines)
