"""What a benchmark leaves behind: raw measurements, one JSON object a line.

Each row stands alone: it says what was measured, on which machine, with which versions, and keeps
every repetition as it was. Medians and ratios are made from rows, never stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Machine:
    """What the figures depend on besides the software."""

    processor: str
    instruction_sets: tuple[str, ...]
    """Those that matter to matrix products: avx2, avx512f, avx512_vnni, amx_int8, ..."""
    cores: int
    """That the process may use: affinity mask and CPU quota."""
    memory_bytes: int
    platform: str


@dataclass(frozen=True)
class Row:
    """One measure of one contender at one workload."""

    contender: str
    model: str
    workload: str
    measure: str
    unit: str
    values: tuple[float, ...]
    """One a repetition, or one a call where calls are what is measured; in the order measured."""
    texts: int
    """In one repetition."""
    tokens: int
    """In one repetition, special tokens included."""
    machine: Machine
    versions: dict[str, str]
    commit: str
    error: str = ""
    """Why there are no values: not installed, crashed, hung, answered wrongly."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What was measured, of whom."""
        return self.model, self.workload, self.contender, self.measure

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a row that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        machine = fields["machine"] | {
            "instruction_sets": tuple(fields["machine"]["instruction_sets"])
        }
        return cls(
            **fields | {"machine": Machine(**machine), "values": tuple(fields["values"])},
        )

    def to_json(self) -> str:
        """Write the row as one line."""
        return json.dumps(asdict(self))


def read_rows(path: Path) -> list[Row]:
    """Read all rows of a file; a last line that an interrupted run left unfinished is no row."""
    return list(_rows(path)) if path.is_file() else []


def latest_rows(rows: Iterable[Row]) -> list[Row]:
    """Keep of each contender's measure the row that was written last: it may be measured anew."""
    return list({row.key: row for row in rows}.values())


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows and have them on disk; an unfinished last line is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _cut_unfinished_line(path)
    with path.open("ab") as file:
        file.writelines(row.to_json().encode() + b"\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def _rows(path: Path) -> Iterator[Row]:
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield Row.from_json(line.decode())


def _cut_unfinished_line(path: Path) -> None:
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)
