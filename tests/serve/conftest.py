"""A server for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Serving, serving


@pytest.fixture(scope="module")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of MiniLM with default options."""
    with serving(minilm, tmp_path_factory.mktemp("server") / "log") as server:
        yield server
        assert server.process.poll() is None, server.log()
