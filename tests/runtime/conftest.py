"""Fixtures for the runtime tests: tiny and modified bundles."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedrt import Bundle, Embedder
from embedrt.bundle.reader import FILES, MANIFEST
from tiny_bundle import make_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A bundle of a few hundred bytes whose embeddings are word counts."""
    return make_tiny(tmp_path / "tiny")


@pytest.fixture
def tiny_embedder(tiny: Path) -> Iterator[Embedder]:
    """The tiny bundle, loaded with two workers."""
    with Embedder.load(tiny, threads=2) as embedder:
        yield embedder


@pytest.fixture(scope="session")
def minilm_with(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that makes a MiniLM bundle with changed manifest fields."""

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("minilm") / "bundle"
        folder.mkdir()
        for name in FILES:
            link_or_copy(minilm / name, folder / name)
        manifest = dataclasses.replace(Bundle.open(minilm).manifest, **changes)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        return folder

    return make


def link_or_copy(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
