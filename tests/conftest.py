"""What the tests share: a bundle of real MiniLM, exported here or given."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrt import Embedder
from sharing import made_once

# A shell that starts the tests in the background has them ignore interrupts, and so would the
# processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

GIVEN_BUNDLE = "EMBEDRT_TEST_BUNDLE"


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of real all-MiniLM-L6-v2: the one that EMBEDRT_TEST_BUNDLE names, or a fresh one."""
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
    """Real MiniLM, loaded."""
    with Embedder.load(minilm) as embedder:
        yield embedder
