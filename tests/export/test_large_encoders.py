"""Tests of ModernBERT at full size: the memory of an export and of a process with the bundle."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from children import peak_of
from large_models import make_large
from model_folders import make_small

pytestmark = pytest.mark.slow

MAX_TOKENS = 512
MOST_TO_EXPORT, MOST_TO_RUN = 2.2, 1.2  # as multiples of the weights in float32

EXPORT = """
import sys
from pathlib import Path
from embedrt_export import export_model

export_model(sys.argv[1], output=Path(sys.argv[2]), precision=sys.argv[3])
"""
RUN = """
import sys
from embedrt import Embedder

with Embedder.load(sys.argv[1], threads=1) as embedder:
    assert len(embedder.tokenize(["fox " * 1000])[0]) == embedder.max_tokens
    embedder.encode(["fox " * 1000, "a lazy dog", "fox"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
def test_memory(tmp_path: Path) -> None:
    """The export is measured beyond what the same libraries use for a small model.

    The bundle runs on one thread: for single texts on all cores, an embedder loads a second
    session.
    """
    make_small(tmp_path / "small", "modernbert")
    libraries = peak_of(EXPORT, tmp_path / "small", tmp_path / "small-fp32", "fp32")
    weights = make_large(tmp_path / "model", "modernbert", max_tokens=MAX_TOKENS)
    assert 590e6 < weights < 600e6
    exported = peak_of(EXPORT, tmp_path / "model", tmp_path / "fp32", "fp32")
    run = peak_of(RUN, tmp_path / "fp32")
    found = {"export": (exported - libraries) / weights, "run": run / weights}
    assert found["export"] <= MOST_TO_EXPORT, found
    assert found["run"] <= MOST_TO_RUN, found
