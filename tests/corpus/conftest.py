"""Fixtures for the tests of corpora."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corpora import write_parquet
from embedrt import Embedder
from embedrt.corpus import embed
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


@pytest.fixture(params=[None, 0.005], ids=["parts", "merged"])
def output(request: pytest.FixtureRequest, source: Path, tiny: Path) -> Path:
    """A complete output, once in parts and once merged."""
    folder = source.parent / "output"
    embed(source, folder, bundle=tiny, rows_per_part=60, merge_mb=request.param)
    return folder
