"""Startup time and memory, measured in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("footprint_child.py")


@dataclass(frozen=True)
class Startup:
    """Seconds from the start of a process to its first vector, by phase."""

    python: float
    importing: float
    loading: float
    first_vector: float

    @property
    def total(self) -> float:
        """Seconds of all phases together."""
        return self.python + self.importing + self.loading + self.first_vector


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process in bytes; None where the system does not report it."""

    after_import: int | None
    after_load: int | None
    after_texts: int | None
    peak: int | None


def measure_process(bundle: Path, texts: Sequence[str] = ()) -> tuple[Startup, Memory]:
    """Start a process that loads `bundle` and embeds one text, then `texts`.

    Raises ChildProcessError if the process fails.
    """
    # perf_counter is the same clock in all processes of a machine.
    start = time.perf_counter()
    process = subprocess.run(  # noqa: S603  # our own file in our own interpreter
        [sys.executable, "-P", str(CHILD), str(bundle)],
        input=json.dumps(list(texts)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2]
        raise ChildProcessError(
            f"a process that loads {bundle} ended with status {process.returncode}: {last}"
        )
    report: dict[str, Any] = json.loads(process.stdout)
    started, imported, loaded, embedded = report["moments"]
    startup = Startup(started - start, imported - started, loaded - imported, embedded - loaded)
    return startup, Memory(**report["sizes"])
