"""Encoders of other architectures, by way of optimum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense

from comparison import Pair, assert_agrees, export_small, texts_of_every_length
from embedrt import Embedder
from embedrt.bundle.graph_rules import OPERATORS
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from model_folders import METADATA, make_small, write_json

FAMILIES = ["electra", "albert", "modernbert"]


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_at_every_length_and_past_the_maximum(
    exported: Callable[[str], Pair], family: str
) -> None:
    pair = exported(family)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "traced"
        assert embedder.manifest.family == family
        texts = texts_of_every_length(embedder, embedder.max_tokens + 10)
    assert_agrees(pair, list(texts.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_graph(exported: Callable[[str], Pair], family: str) -> None:
    model = onnx.load(exported(family).bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["input_ids"]
    assert [value.name for value in model.graph.output] == ["embedding"]
    assert [opset.domain for opset in model.opset_import] == [""]
    assert {node.op_type for node in model.graph.node} <= OPERATORS


def test_another_head(tmp_path: Path) -> None:
    tail = [Dense(64, 16)]
    pair = export_small(tmp_path, "electra", pooling=("weightedmean", "cls"), tail=tail)
    assert_agrees(pair, ["", "a", "How many people live in London?", "a lazy dog " * 30])


@pytest.mark.parametrize(
    "changes", [{"position_embedding_type": "relative_key"}, {"hidden_act": "silu"}]
)
def test_variant_of_a_known_family(tmp_path: Path, changes: dict[str, str]) -> None:
    """What the fused graph does not know is traced, not guessed."""
    pair = export_small(tmp_path, "bert", config=changes)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "traced"
    assert_agrees(pair, ["", "a", "How many people live in London?", "a lazy dog " * 30])


def test_missing_weights(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "electra", "electra")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, file, METADATA)
    with pytest.raises(
        UnsupportedModelError, match=r"lack encoder\.layer\.1\.output\.dense\.weight"
    ):
        export_model(str(folder), output=tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_unknown_architecture(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "bert", "bert")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, "model_type": "hypercube"})
    with pytest.raises(UnsupportedModelError, match="hypercube"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_architecture_that_optimum_does_not_know(tmp_path: Path) -> None:
    """FNet: transformers runs it, optimum has no export for it."""
    folder = make_small(tmp_path / "fnet", "fnet")
    with pytest.raises(UnsupportedModelError, match="fnet"):
        export_model(str(folder), output=tmp_path / "bundle")
