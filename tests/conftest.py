"""Fixtures for all tests: a bundle of all-MiniLM-L6-v2 with its published weights."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from embedrt import Embedder
from sharing import made_once

# Shells start background jobs with interrupts ignored. Child processes inherit that, which would
# break tests that send interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These tests need a separate environment: make test-cluster.
collect_ignore = [] if find_spec("ray") else ["cluster"]

GIVEN_BUNDLE = "EMBEDRT_TEST_BUNDLE"

SLOW_SECONDS = 2400  # timeout of a slow test: minutes of work, on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time before they count as hanging."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of all-MiniLM-L6-v2: the one in EMBEDRT_TEST_BUNDLE, or a new export."""
    given = os.environ.get(GIVEN_BUNDLE)
    if given:
        return Path(given).absolute()
    from embedrt_export import export_model

    return made_once(
        tmp_path_factory,
        "all-MiniLM-L6-v2-fp32",
        lambda output: export_model("all-MiniLM-L6-v2", output=output),
    )


@pytest.fixture(scope="session")
def embedder(minilm: Path) -> Iterator[Embedder]:
    """The bundle of all-MiniLM-L6-v2, loaded."""
    with Embedder.load(minilm) as embedder:
        yield embedder
