"""Tests of what loading the kernels does: it packs in another thread, and into small pages."""

from __future__ import annotations

import platform
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from children import output_of
from embedrt import Embedder
from embedrt.engine.huge_pages import SETTINGS, added_blocks, enlarge
from embedrt.kernels.library import Library
from embedrt.kernels.session import KernelSession, Model, Packing
from kernels_twin import random_encoder

MB = 1 << 20


# A new process, because memory that has been freed may be in huge pages still.
ENCODE = """
import sys
from pathlib import Path
from embedrt import Embedder

def huge():
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))

with Embedder.load(sys.argv[1], threads=1, kernels="require") as embedder:
    first = embedder.encode("a text").tobytes()
    loaded = huge()
    for _ in range(8):
        embedder.encode(["a short text", "another one"])
    assert embedder.encode("a text").tobytes() == first
    print(loaded, huge())
"""


def huge_on_request() -> bool:
    """Whether Linux makes huge pages of 2 MB here only where it is asked."""
    if platform.system() != "Linux" or not SETTINGS.exists():
        return False
    major, minor = platform.release().split(".")[:2]
    enabled = (SETTINGS / "enabled").read_text(encoding="utf-8")
    return (int(major), int(minor)) >= (6, 1) and "[madvise]" in enabled


@pytest.fixture
def session(library: Library, path: str) -> KernelSession:
    """Kernels with weights of 4 MB."""
    encoder = random_encoder(0, heads=12, size=32, inner=1536, outliers=16, layers=2)
    return KernelSession(Model(library, path, encoder), path)


def test_regions_hold_the_weights(session: KernelSession) -> None:
    weights = 2 * 384 * (3 * 384 + 384 + 2 * 1536)
    assert weights < sum(end - start for start, end in session.regions) < weights + MB
    assert session.on(2).regions == session.regions


def test_weights_keep_their_content_when_they_are_moved(session: KernelSession) -> None:
    ids = np.random.default_rng(0).integers(0, 50, (3, 20))
    vectors = session.run(ids)
    enlarge(added_blocks([], session.regions))
    assert (session.run(ids) == vectors).all()


@pytest.mark.skipif(not huge_on_request(), reason="needs Linux 6.1 with huge pages on request")
def test_batches_move_the_weights_to_huge_pages(minilm_int8: Path, library: Library) -> None:
    if library.path() is None:
        pytest.skip("there are no kernels for this processor")
    loaded, grown = map(int, output_of(ENCODE, minilm_int8).split())
    assert loaded == 0  # the load does not wait for them
    assert grown > 8 * MB


def test_packing_returns_what_was_packed_or_raises(session: KernelSession) -> None:
    assert Packing(lambda: session).session() is session

    def fail() -> KernelSession:
        raise ValueError("no such weights")

    packing = Packing(fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="no such weights"):
            packing.session()


def test_a_system_without_more_threads(
    minilm_int8: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library.path() is None:
        pytest.skip("there are no kernels for this processor")

    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        embedder = Embedder.load(minilm_int8, kernels="require", threads=1)
    with embedder:
        assert embedder.stats().engine.startswith("kernels")
