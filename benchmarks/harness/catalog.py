"""The contenders and preparations, read from their files without importing them; their errors."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import FOLDER


class ContenderError(Exception):
    """A contender cannot be installed or prepared, crashes, hangs, or returns wrong vectors."""


class HungError(ContenderError):
    """A contender does not answer in time."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender, or the preparation of an artifact, as its file describes it."""

    name: str
    file: Path
    environment: str
    needs: str
    """The artifact that it runs or starts from, if any."""
    of_this_checkout: bool = False
    """Whether embedrt's own code makes the artifact, so that it depends on that code."""


def contenders(folder: Path = FOLDER / "contenders") -> dict[str, Entry]:
    """Return all contenders by name, in the order of their files."""
    return _entries(folder, "CONTENDERS")


def preparations(folder: Path = FOLDER / "preparations") -> dict[str, Entry]:
    """Return all preparations by the artifact that they make."""
    return _entries(folder, "ARTIFACTS")


def _entries(folder: Path, what: str) -> dict[str, Entry]:
    """Return the entries in the constant `what` of each module, with the artifact they need."""
    entries, wanted = {}, {what, "ENVIRONMENT", "OF_THIS_CHECKOUT"}
    for file in sorted(folder.glob("*.py")):
        found = {}
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in wanted:
                    found[name] = ast.literal_eval(value)
        for name, needs in found.get(what, {}).items():
            own = found.get("OF_THIS_CHECKOUT", False)
            entries[name] = Entry(name, file, found["ENVIRONMENT"], needs, own)
    return entries
