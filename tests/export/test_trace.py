"""Encoders of other architectures, by way of optimum."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.sentence_transformer.modules import Dense

from comparison import Pair, assert_agrees, export_small, texts_of_every_length
from embedrt import Embedder
from embedrt.bundle.graph_rules import OPERATORS
from embedrt.errors import ProofError, SourceError, UnsupportedModelError
from embedrt_export import export_model
from model_folders import METADATA, change_json, make_small, write_json

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
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "model_type": "hypercube"})
    with pytest.raises(UnsupportedModelError, match="hypercube"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_architecture_that_optimum_does_not_know(tmp_path: Path) -> None:
    """FNet: transformers runs it, optimum has no export for it."""
    folder = make_small(tmp_path / "fnet", "fnet")
    with pytest.raises(UnsupportedModelError, match="fnet"):
        export_model(str(folder), output=tmp_path / "bundle")


def refusal(folder: Path) -> str:
    """Why a model is refused: a short sentence, without what other libraries advise."""
    with pytest.raises(UnsupportedModelError) as caught:
        export_model(str(folder), output=folder.with_name("bundle"))
    message = str(caught.value)
    for words in ("trust_remote_code", "export the bundle again", "Only [", "one of the following"):
        assert words not in message
    assert len(message) < 600
    assert not folder.with_name("bundle").exists()
    return message


def test_operators_that_a_bundle_may_not_hold(tmp_path: Path) -> None:
    message = refusal(make_small(tmp_path / "model", "squeezebert"))
    for words in ("architecture squeezebert", "operators Conv,", "Use sentence-transformers"):
        assert words in message


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_decoder(tmp_path: Path, family: str) -> None:
    message = refusal(make_small(tmp_path / "model", family))
    assert f"the architecture {family}, an encoder-decoder" in message
    assert "lack" not in message


def test_other_libraries_messages_are_short(tmp_path: Path) -> None:
    """Where they would list two hundred architectures."""
    folder = make_small(tmp_path / "model", "fnet")
    assert "fnet" in refusal(folder)
    content = json.loads((folder / "config.json").read_text())
    del content["model_type"]
    write_json(folder / "config.json", content)
    assert "its config.json has no model_type" in refusal(folder)
    write_json(folder / "config.json", {**content, "model_type": "hypercube"})
    assert "hypercube" in refusal(folder)
    (folder / "config.json").unlink()
    with pytest.raises(SourceError, match=r"config\.json is missing"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("model_type", ["bert", "theirs"])
def test_code_of_the_authors_own(
    tmp_path: Path, model_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where transformers knows the architecture, its own class is exported, and that is told."""
    folder = make_small(tmp_path / "model", "bert")
    own = {"AutoConfig": "theirs.TheirConfig", "AutoModel": "theirs.TheirModel"}
    change_json(folder / "config.json", model_type=model_type, auto_map=own)
    if model_type == "theirs":
        assert "code of the model's author (auto_map)" in refusal(folder)
    else:
        export_model(str(folder), output=tmp_path / "bundle")
        assert "which is not run" in caplog.text


def test_weights_that_need_the_authors_own_code(tmp_path: Path) -> None:
    """JinaBERT calls itself BERT, and has no table of positions."""
    folder = make_small(tmp_path / "model", "bert")
    change_json(folder / "config.json", auto_map={"AutoModel": "theirs.TheirModel"})
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["embeddings.position_embeddings.weight"]
    save_file(tensors, file, METADATA)
    message = refusal(folder)
    for words in ("lack embeddings.position_embeddings.weight", "code of its author's (auto_map"):
        assert words in message


def test_weights_that_are_quantized(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert")
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert "config.json sets quantization_config" in refusal(folder)


def test_no_number_comes_out(tmp_path: Path) -> None:
    """The graph's own check says so in words about bundles; here there is none yet."""
    folder = make_small(tmp_path / "model", "bert", tail=[])
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in ("weight", "bias"):
        tensors[f"encoder.layer.1.output.LayerNorm.{name}"].fill_(torch.finfo(torch.float32).max)
    save_file(tensors, file, METADATA)
    with pytest.raises(ProofError, match="does not run: the model gave NaN or infinity"):
        export_model(str(folder), output=tmp_path / "bundle")
