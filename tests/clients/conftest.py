"""Clients in environments of their own: `make test-clients` runs these tests, and nothing else."""

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
    """Two short ones, and one that is truncated."""
    return TEXTS


@pytest.fixture(scope="session")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The real MiniLM, which takes the ids of OpenAI's tokenizer where the environment has them."""
    options = []
    if file := os.environ.get("EMBEDRT_TEST_TIKTOKEN"):
        options = ["--tiktoken", file]
    with serving(minilm, tmp_path_factory.mktemp("server") / "log", *options) as server:
        yield server
