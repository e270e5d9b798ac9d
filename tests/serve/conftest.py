"""One server for the tests of a file, and what its vectors must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Serving, serving


@pytest.fixture(scope="module")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The real MiniLM, behind the defaults."""
    with serving(minilm, tmp_path_factory.mktemp("server") / "log") as server:
        yield server
        assert server.process.poll() is None, server.log()
