"""Rows: the raw measurements that a benchmark keeps, one JSON object a line.

A row is complete by itself: what was measured, on which machine, with which versions, and the value
of every repetition. Medians and ratios are computed from rows and never stored.
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
    """In the order measured: one for each repetition, or for each call if calls are timed."""
    texts: int
    """In one repetition."""
    tokens: int
    """In one repetition, special tokens included."""
    machine: Machine
    versions: dict[str, str]
    commit: str
    error: str = ""
    """Why there are no values: not installed, crashed, hung, answered wrongly."""

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Parse a line that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        machine = fields["machine"]
        machine["instruction_sets"] = tuple(machine["instruction_sets"])
        fields |= {"machine": Machine(**machine), "values": tuple(fields["values"])}
        return cls(**fields)

    def to_json(self) -> str:
        """Write the row as one line."""
        return json.dumps(asdict(self))


def read_rows(path: Path) -> list[Row]:
    """Read all rows of a file, without a last line that an interrupted run left incomplete."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [Row.from_json(line.decode()) for line in lines if line.endswith(b"\n")]


def latest_rows(rows: Iterable[Row]) -> list[Row]:
    """Keep the last row of each measure of each contender, which may have been measured again."""
    latest = {(row.model, row.workload, row.contender, row.measure): row for row in rows}
    return list(latest.values())


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows and sync them to disk; an incomplete last line is removed first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.is_file() else b""
    with path.open("ab") as file:
        file.truncate(content.rfind(b"\n") + 1)
        file.writelines(row.to_json().encode() + b"\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
