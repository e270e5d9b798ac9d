"""Tests that the onnx package reads the weights file beside the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from embedrt.bundle.reader import GRAPH
from embedrt.upgrade import upgrade_bundle

DATA = Path(__file__).parents[1] / "data" / "version_1"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_model_is_the_same(tmp_path: Path, precision: str) -> None:
    upgrade_bundle(DATA / precision, tmp_path / "new")
    onnx.checker.check_model(tmp_path / "new" / GRAPH, full_check=precision == "fp32")
    old, new = (onnx.load(folder / GRAPH) for folder in (DATA / precision, tmp_path / "new"))
    for tensor in new.graph.initializer:  # its data was loaded into the graph
        tensor.ClearField("data_location")
        assert not tensor.external_data
    assert new == old
