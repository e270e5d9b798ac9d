"""The contenders and preparations that exist, read from their files without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.checkout import FOLDER

CONSTANTS = frozenset({"ENVIRONMENT", "CONTENDERS", "ARTIFACTS", "OF_THIS_CHECKOUT"})


@dataclass(frozen=True, slots=True)
class Contender:
    """A contender, as its file describes it."""

    name: str
    file: Path
    environment: str
    artifact: str


@dataclass(frozen=True, slots=True)
class Preparation:
    """How an artifact is made, as the file of the preparation describes it."""

    artifact: str
    file: Path
    environment: str
    needs: str
    of_this_checkout: bool
    """Whether embedrt's own code makes it, so that it is made again when that code changes."""


def contenders(folder: Path = FOLDER / "contenders") -> dict[str, Contender]:
    """All contenders by name, in the order of their files."""
    return {
        name: Contender(name, file, found["ENVIRONMENT"], artifact)
        for file, found in _constants(folder)
        for name, artifact in found.get("CONTENDERS", {}).items()
    }


def preparations(folder: Path = FOLDER / "preparations") -> dict[str, Preparation]:
    """All preparations by the artifact that they make."""
    return {
        name: Preparation(
            name, file, found["ENVIRONMENT"], needs, found.get("OF_THIS_CHECKOUT", False)
        )
        for file, found in _constants(folder)
        for name, needs in found.get("ARTIFACTS", {}).items()
    }


def _constants(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each module, with the values of those of `CONSTANTS` that it sets."""
    for file in sorted(folder.glob("*.py")):
        constants = {}
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in CONSTANTS:
                    constants[name] = ast.literal_eval(value)
        yield file, constants
