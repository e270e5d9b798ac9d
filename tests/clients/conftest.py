"""Fixtures for the tests of HTTP clients in their own environments: `make test-clients`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Serving, serving

TEXTS = ["How many people live in London?", "Around 9 million people live in London", "word " * 300]

collect_ignore_glob = [] if os.environ.get("EMBEDRT_TEST_CLIENTS") else ["test_*.py"]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Two short texts and one that is truncated."""
    return TEXTS


@pytest.fixture(scope="session")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of MiniLM that accepts OpenAI's token ids where EMBEDRT_TEST_TIKTOKEN is set."""
    options = []
    if file := os.environ.get("EMBEDRT_TEST_TIKTOKEN"):
        options = ["--tiktoken", file]
    with serving(minilm, tmp_path_factory.mktemp("server") / "log", *options) as server:
        yield server
