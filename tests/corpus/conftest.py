"""Fixtures for the tests of corpora."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corpora import write_parquet
from embedrt import Embedder
from tiny_bundle import make_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few hundred bytes whose embeddings are word counts."""
    return make_tiny(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def tiny_embedder(tiny: Path) -> Iterator[Embedder]:
    """The tiny bundle, loaded."""
    with Embedder.load(tiny, threads=2) as embedder:
        yield embedder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of three Parquet files of 250 rows in row groups of 60."""
    return write_parquet(tmp_path / "source")
