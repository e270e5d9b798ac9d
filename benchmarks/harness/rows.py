"""Rows: the raw measurements that a benchmark keeps, one JSON object per line.

A row is self-contained: what was measured, on which machine, with which versions, and the value of
every repetition. Medians and ratios are computed from rows and never stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.machine.describe import Machine


@dataclass(frozen=True, slots=True)
class Row:
    """One measure of one contender at one workload."""

    contender: str
    model: str
    workload: str
    measure: str
    unit: str
    values: tuple[float, ...]
    """One value per repetition, or per call if calls are timed, in the order measured."""
    texts: int
    """The number of texts in one repetition."""
    tokens: int
    """The number of tokens in one repetition, including special tokens."""
    machine: Machine
    versions: dict[str, str]
    commit: str
    error: str = ""
    """The reason for missing values: not installed, crashed, hung, wrong vectors."""

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Parse a line written by `to_json`."""
        fields: dict[str, Any] = json.loads(line)
        machine = fields["machine"]
        machine["instruction_sets"] = tuple(machine["instruction_sets"])
        fields |= {"machine": Machine(**machine), "values": tuple(fields["values"])}
        return cls(**fields)

    def to_json(self) -> str:
        """Write the row as one line."""
        return json.dumps(asdict(self))


def read_rows(path: Path) -> list[Row]:
    """Read all rows of a file, except a last line that an interrupted run left incomplete."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [Row.from_json(line.decode()) for line in lines if line.endswith(b"\n")]


def latest_rows(rows: Iterable[Row]) -> list[Row]:
    """Keep the latest row of each measure of each contender."""
    latest = {(row.model, row.workload, row.contender, row.measure): row for row in rows}
    return list(latest.values())


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows and sync them to disk. Removes an incomplete last line first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.is_file() else b""
    with path.open("ab") as file:
        file.truncate(content.rfind(b"\n") + 1)
        file.writelines(row.to_json().encode() + b"\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
