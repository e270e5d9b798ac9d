"""Tests that the extras which documents and messages name exist, as every pip finds them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])
PLACES = [
    *(file for file in ROOT.glob("*.md")),
    *(
        file
        for room in ("runtime", "export", "models", "tests")
        for file in ROOT.glob(f"{room}/**/*.md")
    ),
    *(file for room in ("runtime", "export") for file in ROOT.glob(f"{room}/**/*.py")),
]


def extras_in(text: str) -> set[str]:
    """Return the extras of embedrt that a text names, without those that code fills in."""
    lists = re.findall(r"\bembedrt\[([\w.,-]+)\]", text)
    return {extra for each in lists for extra in each.split(",")}


@pytest.mark.parametrize("extra", EXTRAS)
def test_names_are_normalized(extra: str) -> None:
    """Before version 23.3, pip warns of any other name, and installs nothing of the extra."""
    assert extra == re.sub(r"[-_.]+", "-", extra).lower()


def test_extras_that_are_named_exist() -> None:
    named = {
        (extra, file) for file in PLACES for extra in extras_in(file.read_text(encoding="utf-8"))
    }
    assert {extra for extra, _ in named} >= {
        "corpus",
        "export",
        "langchain",
        "llama-index",
        "serve",
    }
    assert [(extra, file.name) for extra, file in named if extra not in EXTRAS] == []
    assert extras_in("pip install 'embedrt[corpus,lamma_index]'") == {"corpus", "lamma_index"}
