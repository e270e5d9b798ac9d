"""Tests of the ONNX Runtime session of a graph."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from children import output_of
from embedrt import Embedder
from embedrt.bundle.reader import GRAPH
from embedrt.engine.session import Session
from embedrt.errors import BundleCorruptError, NonFiniteEmbeddingError
from tiny_bundle import WORDS, Field, make_tiny, message, model, node, tensor, tiny_graph

TABLE = np.eye(WORDS, dtype=np.float32)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_are_never_returned(tmp_path: Path, broken: float) -> None:
    table = TABLE.copy()
    table[3, 5] = broken
    with Embedder.load(make_tiny(tmp_path / "tiny", table=table)) as embedder:
        assert embedder.encode("w1 w2").sum() == 2
        for texts in ("w3", ["w1", "w3", "w1 w1"]):
            with pytest.raises(NonFiniteEmbeddingError, match=r"NaN or infinity.*embedrt verify"):
                embedder.encode(texts)


def test_a_graph_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / GRAPH).write_bytes(
        model((1, node("Gather", ["nowhere", "input_ids"], "embedding")))
    )
    with pytest.raises(BundleCorruptError, match=r"model\.onnx does not load in ONNX Runtime \d"):
        Session(tmp_path / GRAPH)


def test_too_little_memory(tmp_path: Path) -> None:
    """The bundle is not what is wrong."""
    (tmp_path / GRAPH).write_bytes(
        model(
            (1, node("ConstantOfShape", ["shape"], "embedding")),
            (5, tensor("shape", np.array([1 << 23, 1 << 23]))),
        )
    )
    session = Session(tmp_path / GRAPH)
    with pytest.raises(BundleCorruptError, match="there is too little memory: free some, or raise"):
        session.run(np.array([[1]]))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
def test_no_file_left(tiny: Path) -> None:
    limited = """
    import resource, sys
    from embedrt import Embedder
    from embedrt.errors import BundleError
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    try:
        Embedder.load(sys.argv[1])
    except BundleError as error:
        print(error)
    """
    said = output_of(dedent(limited), tiny)
    assert "cannot be read (Too many open files); close files, or raise the limit" in said


def test_dimension_is_that_of_the_graph(tmp_path: Path) -> None:
    (tmp_path / GRAPH).write_bytes(tiny_graph(TABLE[:, :3].copy()))
    assert Session(tmp_path / GRAPH).dimension == 3
    cast: Field = (
        1,
        node("Cast", ["input_ids"], "embedding", (5, message((1, "to"), (3, 1), (20, 2)))),
    )
    (tmp_path / GRAPH).write_bytes(model(cast, dimension="dimension"))
    assert Session(tmp_path / GRAPH).dimension is None


@pytest.mark.parametrize("dimension", [1, WORDS - 1, WORDS + 1])
def test_a_manifest_of_another_dimension(tmp_path: Path, dimension: int) -> None:
    bundle = make_tiny(tmp_path / "tiny", dimension=dimension)
    with pytest.raises(BundleCorruptError, match=rf"gives 10 .* manifest says {dimension}; copy"):
        Embedder.load(bundle)


def test_failures_are_raised_and_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = make_tiny(tmp_path / "tiny", table=TABLE[:3].copy())
    with Embedder.load(bundle) as embedder, pytest.raises(Exception, match=r"out of .*bounds"):
        embedder.encode("w9")
    assert capfd.readouterr() == ("", "")


def test_runs_are_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Embedder.load(make_tiny(tmp_path / "tiny")) as embedder:
        embedder.encode(["w1", "w2 w3"])
    assert capfd.readouterr() == ("", "")
