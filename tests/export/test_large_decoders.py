"""Tests of decoders at the size of published models, in processes that report their own memory.

The weights are random, so the tests show the resources needed but not the quality.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from children import output_of
from large_models import make_large

pytestmark = pytest.mark.slow

MOST_AT_EXPORT = 2.2  # as a multiple of the weights in float32
MOST_AT_RUN = 1.2

EXPORT = """
import json, sys
from pathlib import Path
from embedrt.bench.memory import peak_bytes
from embedrt_export import export_model

export_model(sys.argv[1], output=Path(sys.argv[2]))
print(json.dumps({"peak": peak_bytes()}))
"""

RUN = """
import json, sys
from embedrt import Embedder
from embedrt.bench.memory import peak_bytes

texts = ["a", "How many people live in London?", "the lazy dog " * 40]
with Embedder.load(sys.argv[1], threads=1) as embedder:
    together = embedder.encode(texts * 2)
    alone = [embedder.encode(text).tobytes() for text in texts]
    same = [vector.tobytes() for vector in together] == alone * 2
    agreement = embedder.manifest.agreement
print(json.dumps({
    "peak": peak_bytes(),
    "same": same,
    "builder": embedder.manifest.builder,
    "difference": agreement.max_difference,
}))
"""


def run(program: str, *arguments: Path) -> dict[str, Any]:
    """Run a program in a new process; return the JSON that it prints."""
    found: dict[str, Any] = json.loads(output_of(program, *arguments).splitlines()[-1])
    return found


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_export_and_run(tmp_path: Path, family: str) -> None:
    weights = make_large(tmp_path / "model", family)
    bundle = tmp_path / "bundle"
    exported = run(EXPORT, tmp_path / "model", bundle)
    assert exported["peak"] <= MOST_AT_EXPORT * weights
    found = run(RUN, bundle)
    assert found["builder"] == "fused"
    assert found["same"]
    assert found["difference"] <= 2e-6
    assert found["peak"] <= MOST_AT_RUN * weights
