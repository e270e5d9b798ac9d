"""Fixtures for the tests that need Ray, servers and databases: `make test-cluster`."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from corpora import write_parquet
from tiny_bundle import make_tiny

# Set before any test imports Ray, as the runtime does.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# What these tests start inherits it, and so differs from the Ray processes of others.
os.environ["EMBEDRT_TEST_RUN"] = uuid.uuid4().hex


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few hundred bytes whose embeddings are word counts."""
    return make_tiny(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of three Parquet files of 250 rows in row groups of 60."""
    return write_parquet(tmp_path / "source")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"
