"""Which contenders and preparations there are, read from their files without importing them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contender:
    """One contender, as its file describes it."""

    name: str
    file: Path
    environment: str
    artifact: str
    compiles: bool
    """Whether its first vector of a shape waits for a compiler."""


@dataclass(frozen=True)
class Preparation:
    """What makes an artifact, as its file describes it."""

    artifact: str
    file: Path
    environment: str
    needs: str
    of_this_checkout: bool
    """Whether it is made by embedrt's own code, and must be made anew where that changed."""


def contenders(folder: Path = HERE / "contenders") -> dict[str, Contender]:
    """All contenders by name, in the order of their files."""
    return {
        name: Contender(
            name, file, constants["ENVIRONMENT"], artifact, constants.get("COMPILES", False)
        )
        for file, constants in _modules(folder)
        for name, artifact in constants["CONTENDERS"].items()
    }


def preparations(folder: Path = HERE / "preparations") -> dict[str, Preparation]:
    """All preparations by the artifact that they make."""
    return {
        artifact: Preparation(
            artifact,
            file,
            constants["ENVIRONMENT"],
            constants["NEEDS"],
            constants.get("OF_THIS_CHECKOUT", False),
        )
        for file, constants in _modules(folder)
        for artifact in constants["ARTIFACTS"]
    }


def _modules(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    files = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
    return [(file, _constants(file)) for file in files]


def _constants(file: Path) -> dict[str, Any]:
    """The literals that are assigned to names in capitals at the top of a module."""
    constants = {}
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name.isupper():
                try:
                    constants[name] = ast.literal_eval(value)
                except ValueError:
                    continue
    return constants
