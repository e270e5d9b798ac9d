"""A sparse encoder of the size and settings of splade-v3, with random weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sentence_transformers

from comparison import Pair
from embedrt import SparseEncoder
from embedrt_export import export_model
from sparse_folders import make_full_size_sparse

pytestmark = pytest.mark.slow

TOLERANCE = 2e-5  # of the text's largest weight
MEGABYTES = 50  # the logits of a text of 512 tokens have 62
WORDS = "the city grew around its river because boats could carry more grain than carts".split()

MEASURE = """
import re, sys
from embedrt import SparseEncoder

def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024

encoder = SparseEncoder.load(sys.argv[1], threads=1)
encoder.encode("a text")
before = peak()
assert len(encoder.tokenize("city " * 600)[0]) == 512
encoder.encode("city " * 600)
print(peak() - before)
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    parent = tmp_path_factory.mktemp("splade")
    folder = make_full_size_sparse(parent / "model")
    yield Pair(folder, export_model(str(folder), output=parent / "bundle"))
    shutil.rmtree(parent)


def texts() -> list[str]:
    return [" ".join((WORDS * 50)[:count]) for count in (0, 1, 2, 9, 40, 130, 257, 600)]


def test_agrees(pair: Pair) -> None:
    model = sentence_transformers.SparseEncoder(str(pair.folder), device="cpu")
    expected = np.concatenate([model.encode([text]).to_dense().numpy() for text in texts()])
    with SparseEncoder.load(pair.bundle, verify="sha256") as encoder:
        found = encoder.encode(texts())
    dense = found.to_dense()
    scale = expected.max(axis=1, keepdims=True)
    assert (np.abs(dense - expected) / scale).max() <= TOLERANCE
    assert 0.01 < np.diff(found.indptr).mean() / found.shape[1] < 0.5


def test_same_bytes(pair: Pair) -> None:
    with SparseEncoder.load(pair.bundle, threads=1) as encoder:
        alone = [encoder.encode(text) for text in texts()]
    for threads in (1, 2):
        with SparseEncoder.load(pair.bundle, threads=threads) as encoder:
            for one, row in zip(encoder.encode(texts() * 2), alone * 2, strict=True):
                assert one.indices.tobytes() == row.indices.tobytes()
                assert one.values.tobytes() == row.values.tobytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_peak_memory_of_the_longest_text(pair: Pair) -> None:
    child = subprocess.run(
        [sys.executable, "-c", MEASURE, str(pair.bundle)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert float(child.stdout) < MEGABYTES
