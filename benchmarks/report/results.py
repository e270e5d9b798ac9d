"""The results of a run: rows that can be looked up by what they measure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from benchmarks import MAIN_MODEL, OURS
from benchmarks.harness.rows import Row, latest_rows, read_rows
from benchmarks.statistics import median

SECONDS = "seconds"


@dataclass(frozen=True)
class Results:
    """The last row of each contender, model, workload and measure.

    Figures are looked up in the results of one model: see `of_model`.
    """

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Self:
        """Select the rows that count. A contender's last row at a workload decides if it failed."""
        every = list(rows)
        failed = {(row.contender, row.model, row.workload): bool(row.error) for row in every}
        return cls(
            tuple(
                row
                for row in latest_rows(every)
                if failed[row.contender, row.model, row.workload] == bool(row.error)
            )
        )

    def of_model(self, model: str) -> Results:
        """Return the results of one model."""
        return Results(tuple(row for row in self.rows if row.model == model))

    @cached_property
    def contenders(self) -> tuple[str, ...]:
        """Contenders: embedrt's first, then the others in the order in which they ran."""
        found = dict.fromkeys(row.contender for row in self.rows)
        return tuple(dict.fromkeys([*(name for name in OURS if name in found), *found]))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """All models, the main one first."""
        found = dict.fromkeys(row.model for row in self.rows if row.model)
        return tuple(sorted(found, key=lambda model: model != MAIN_MODEL))

    @cached_property
    def failures(self) -> tuple[Row, ...]:
        """Rows with an error instead of values."""
        return tuple(row for row in self.rows if row.error)

    @cached_property
    def _measured(self) -> dict[tuple[str, str, str], Row]:
        return {(row.contender, row.workload, row.measure): row for row in self.rows if row.values}

    def row(self, contender: str, workload: str, measure: str = SECONDS) -> Row | None:
        """Return the row, or None if there is no figure."""
        return self._measured.get((contender, workload, measure))

    def medians(self, workload: str, measure: str = SECONDS) -> dict[str, float]:
        """Return the medians of all contenders that have a figure."""
        rows = {name: self.row(name, workload, measure) for name in self.contenders}
        return {name: median(row.values) for name, row in rows.items() if row}

    def workloads(self, prefix: str) -> tuple[str, ...]:
        """Return the workloads that begin with `prefix`, in the order of their sizes."""
        found = {row.workload for row in self.rows if row.workload.startswith(prefix)}
        return tuple(sorted(found, key=size_of))


def size_of(workload: str) -> int:
    """Return the number at the end of a workload: 16 for ``latency/16``, 0 if there is none."""
    last = workload.rpartition("/")[2]
    return int(last) if last.isdigit() else 0


def read_results(path: Path) -> Results:
    """Read the rows of a run; exit with a message if there are none."""
    results = Results.of(read_rows(path))
    if not results.rows:
        raise SystemExit(f"{path} has no rows; `make bench` writes them")
    return results
