"""Rows by what they measured: where the report's figures are looked up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from benchmarks.plan import MAIN_MODEL
from benchmarks.rows import Row, latest_rows
from benchmarks.statistics import median

OURS = ("embedrt int8", "embedrt fp32")
BASELINE = "sentence-transformers fp32"
SECONDS = "seconds"


@dataclass(frozen=True)
class Results:
    """The last row of each contender, model, workload and measure."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Keep what counts of the rows of a run.

        Whether a contender failed at a workload is what the last of its rows there says.
        """
        every = list(rows)
        failed = {(row.contender, row.model, row.workload): bool(row.error) for row in every}
        return cls(
            tuple(
                row
                for row in latest_rows(every)
                if failed[row.contender, row.model, row.workload] == bool(row.error)
            )
        )

    @cached_property
    def contenders(self) -> tuple[str, ...]:
        """Ours first, then all others in the order in which they ran."""
        found = dict.fromkeys(row.contender for row in self.rows)
        ours = [name for name in OURS if name in found]
        return (*ours, *(name for name in found if name not in OURS))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The main model first."""
        found = dict.fromkeys(row.model for row in self.rows if row.model)
        return tuple(sorted(found, key=lambda model: model != MAIN_MODEL))

    @cached_property
    def failures(self) -> tuple[Row, ...]:
        """What has no values, and why."""
        return tuple(row for row in self.rows if row.error)

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, str, str], Row]:
        return {
            (row.contender, row.model, row.workload, row.measure): row
            for row in self.rows
            if row.values
        }

    def row(
        self, contender: str, workload: str, measure: str = SECONDS, model: str = MAIN_MODEL
    ) -> Row | None:
        """Return the row, or None where that was not measured or failed."""
        return self._by_key.get((contender, model, workload, measure))

    def median(
        self, contender: str, workload: str, measure: str = SECONDS, model: str = MAIN_MODEL
    ) -> float | None:
        """Return the median, or None where that was not measured or failed."""
        row = self.row(contender, workload, measure, model)
        return median(row.values) if row else None

    def failed(self, contender: str, workload: str, model: str = MAIN_MODEL) -> bool:
        """Whether a contender was tried at a workload and gave no figure."""
        return any(
            (row.contender, row.workload, row.model) == (contender, workload, model)
            for row in self.failures
        )

    def fastest(
        self,
        contenders: Sequence[str],
        workload: str,
        measure: str = SECONDS,
        model: str = MAIN_MODEL,
    ) -> str | None:
        """Return the contender with the smallest median of those that were measured."""
        found = {
            name: figure
            for name in contenders
            if (figure := self.median(name, workload, measure, model)) is not None
        }
        return min(found, key=lambda name: found[name], default=None)

    def workloads(self, prefix: str, model: str = MAIN_MODEL) -> tuple[str, ...]:
        """Return the workloads that begin so, smallest number first."""
        found = {
            row.workload
            for row in self.rows
            if row.model == model and f"{row.workload}/".startswith(f"{prefix}/")
        }
        return tuple(sorted(found, key=size_of))


def size_of(workload: str) -> int:
    """Return the number at a workload's end: 16 for ``latency/16``, 0 where there is none."""
    last = workload.rpartition("/")[2]
    return int(last) if last.isdigit() else 0
