"""Tests of encoders of other architectures, which are traced."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import transformer
from sentence_transformers.sentence_transformer.modules import Dense
from transformers import CONFIG_MAPPING, PreTrainedModel

from any_architecture import make_any
from comparison import Pair, assert_agrees, export_small, texts_of_every_length
from embedrt import Embedder
from embedrt.bundle.graph_rules import OPERATORS
from embedrt.errors import ProofError, SourceError, UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.graph.fuse import OPSET
from embedrt_export.graph.nodes import Nodes
from embedrt_export.source.config import read_config
from embedrt_export.source.loading import ENCODERS, class_of
from embedrt_export.source.settings import read_settings
from embedrt_export.traced import finish, trace
from embedrt_export.traced.finish import ENCODED, finish_model
from model_folders import BEFORE_5, METADATA, change_json, make_small, write_json

INSTALLED = {package.name for package in metadata.distributions()}
TRACERS = {tracer.package: tracer for tracer in trace.TRACERS if tracer.package in INSTALLED}
FURTHER = pytest.mark.slow if list(TRACERS) == ["onnxscript"] else ()
# Torch's tracer draws more architectures in test_architectures.py, among them a causal one.
TRACED = [
    pytest.param(
        family,
        tracer,
        marks=pytest.mark.slow if (family, tracer) == ("bloom", "onnxscript") else [],
    )
    for family in ("big_bird", "bloom")
    for tracer in TRACERS
]
# Encoder-decoders for sounds or images, and one that is saved without its decoder.
OF_NO_TEXTS = {"moonshine", "whisper", "udop", "t5gemma2_text"}
TEXTS = ["", "a", "How many people live in London?", "a lazy dog " * 30]

Traced = Callable[[str, str], Pair]


@pytest.fixture(scope="module")
def traced(exported: Callable[[str], Pair], tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """Return a function that maps a family and a tracer to a small model and its bundle."""

    @cache
    def export(family: str, tracer: str) -> Pair:
        if list(TRACERS) == [tracer]:
            return exported(family)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trace, "TRACERS", (TRACERS[tracer],))
            return export_small(tmp_path_factory.mktemp(tracer), family)

    return export


def test_torchs_tracer_is_tested() -> None:
    """The tracer of torch is tested in both environments, with and without optimum."""
    assert "onnxscript" in TRACERS


@pytest.mark.parametrize(("family", "tracer"), TRACED)
def test_agrees_at_every_length_and_past_the_maximum(
    traced: Traced, family: str, tracer: str
) -> None:
    pair = traced(family, tracer)
    with Embedder.load(pair.bundle) as embedder:
        manifest = embedder.manifest
        texts = texts_of_every_length(embedder, embedder.max_tokens + 10)
    assert manifest.builder == "traced"
    assert manifest.family == family
    assert manifest.tools[tracer] == metadata.version(tracer)
    assert manifest.agreement is not None
    assert manifest.agreement.same_bytes
    assert_agrees(pair, list(texts.values()))


@pytest.mark.parametrize(("family", "tracer"), TRACED)
def test_graph(traced: Traced, family: str, tracer: str) -> None:
    model = onnx.load(traced(family, tracer).bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["input_ids"]
    assert [value.name for value in model.graph.output] == ["embedding"]
    domains = {node.domain for node in model.graph.node}
    assert {opset.domain for opset in model.opset_import} == domains
    assert {f"{node.domain}.{node.op_type}".strip(".") for node in model.graph.node} <= OPERATORS


@pytest.mark.skipif(
    BEFORE_5,
    reason="ELECTRA's attention cannot be replaced in transformers 4",
)
def test_attention_takes_memory_that_grows_linearly(traced_electra: Pair) -> None:
    graph = onnx.load(traced_electra.bundle / "model.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("MultiHeadAttention") == 2
    assert "Softmax" not in operators


@pytest.mark.slow
@pytest.mark.parametrize(("heads", "operator"), [(2, "GroupQueryAttention"), (8, "Attention")])
def test_causal_attention(tmp_path: Path, heads: int, operator: str) -> None:
    """Attention is bounded with 16 channels per head, but not with 4, which the operator lacks."""
    folder = make_any(tmp_path / "model", "gpt2", n_head=heads, num_attention_heads=heads)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    graph = onnx.load(pair.bundle / "model.onnx").graph
    assert operator in {node.op_type for node in graph.node}
    assert_agrees(pair, TEXTS)


def test_classes_match_sentence_transformers() -> None:
    """Of encoder-decoders for texts, sentence-transformers loads only the encoder."""
    theirs = {
        kind.model_type: f"{module}.{name}".removeprefix("transformers.")
        for kind, module, name in getattr(transformer, "_ENCODER_ONLY_MODELS", ())
        if hasattr(kind, "model_type")  # older versions of transformers lack it
    }
    ours = {name: path for name, path in ENCODERS.items() if name in theirs}
    assert ours == {name: path for name, path in theirs.items() if name not in OF_NO_TEXTS}
    for model_type in ENCODERS:
        assert issubclass(class_of(CONFIG_MAPPING[model_type]()), PreTrainedModel)


def test_torchs_own_tracer_comes_first(exported: Callable[[str], Pair]) -> None:
    with Embedder.load(exported("big_bird").bundle) as embedder:
        used = [package for package in embedder.manifest.tools if package in TRACERS]
    assert used == ["onnxscript"]


def test_no_tracer_for_a_known_family(exported: Callable[[str], Pair]) -> None:
    with Embedder.load(exported("bert").bundle) as embedder:
        assert not embedder.manifest.tools.keys() & TRACERS.keys()


@pytest.mark.parametrize("family", [pytest.param("ernie", marks=FURTHER)])
def test_architecture_that_optimum_does_not_know(tmp_path: Path, family: str) -> None:
    pair = export_small(tmp_path, family, config={"hidden_act": "tanh"})
    with Embedder.load(pair.bundle) as embedder:
        assert "onnxscript" in embedder.manifest.tools
        assert "optimum-onnx" not in embedder.manifest.tools
    assert_agrees(pair, TEXTS)


def test_texts_longer_than_the_positions_of_the_config(tmp_path: Path) -> None:
    """Where the original computes any position, max_seq_length alone limits a text."""
    folder = make_any(tmp_path / "model", "arcee", max_position_embeddings=20)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == 64
    assert_agrees(pair, [*TEXTS, "a lazy dog"])


@pytest.mark.parametrize("attention", ["block_sparse", "original_full"])
def test_attention_that_transformers_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, attention: str
) -> None:
    folder = make_any(tmp_path / "model", "big_bird", attention_type=attention)
    read_config(read_settings(folder, "model"))
    told = "exported with original_full" in caplog.text
    assert told == (attention == "block_sparse")


@pytest.mark.parametrize("kind", ["CLIPConfig", "Qwen2VLConfig"])
def test_models_of_several_parts(tmp_path: Path, kind: str) -> None:
    folder = make_small(tmp_path / "model", "bert")
    (folder / "config.json").write_text(
        getattr(transformers, kind)().to_json_string(), encoding="utf-8"
    )
    with pytest.raises(UnsupportedModelError, match="text_config, vision_config and is not an"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_positions_are_filled(tmp_path: Path) -> None:
    """Decoders that optimum traces have an input for positions."""
    inputs = [("input_ids", 7), ("attention_mask", 7), ("position_ids", 7)]
    values = [helper.make_tensor_value_info(n, kind, ["b", "t"]) for n, kind in inputs]
    encoded = helper.make_tensor_value_info(ENCODED, TensorProto.FLOAT, ["b", "t", 1])
    sums = helper.make_node("Add", ["attention_mask", "position_ids"], ["sums"])
    cast = helper.make_node("Cast", ["sums"], ["numbers"], to=TensorProto.FLOAT)
    deep = helper.make_node("Unsqueeze", ["numbers", "last"], [ENCODED])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [2])
    graph = helper.make_graph([sums, cast, deep], "positions", values, [encoded], [last])
    head = Nodes(prefix="head/")
    head.name_output(head.add("Squeeze", ENCODED, head.ints(2)))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    onnx.save(model, tmp_path / "traced.onnx")
    finished = finish_model(tmp_path / "traced.onnx", head, 3, tmp_path / "finished")
    session = onnxruntime.InferenceSession(finished)
    (found,) = session.run(None, {"input_ids": np.zeros((2, 3), np.int64)})
    assert found.tolist() == [[1, 2, 3]] * 2


def test_an_input_that_cannot_be_filled(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["b", "t", 1])
    encoded = helper.make_tensor_value_info(ENCODED, TensorProto.FLOAT, ["b", "t", 1])
    node = helper.make_node("Identity", ["pixel_values"], [ENCODED])
    model = helper.make_model(helper.make_graph([node], "images", [value], [encoded]))
    onnx.save(model, tmp_path / "traced.onnx")
    with pytest.raises(
        UnsupportedModelError, match="inputs that bundles may not have: pixel_values"
    ):
        finish_model(tmp_path / "traced.onnx", Nodes(prefix="head/"), 1, tmp_path / "finished")


@pytest.mark.parametrize(
    ("family", "place"),
    [
        ("bert", "config.json"),
        ("bert", "sentence_bert_config.json"),
        ("big_bird", "config.json"),
        pytest.param("big_bird", "sentence_bert_config.json", marks=FURTHER),
    ],
)
def test_weights_of_half_precision_run_in_float32(tmp_path: Path, family: str, place: str) -> None:
    """Version 5 of transformers keeps the weights' dtype, and all versions obey the config's."""
    folder = make_small(tmp_path / family, family)
    file = folder / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(file).items()}
    save_file(tensors, file, METADATA)
    asked = {"dtype": "bfloat16"} if place == "config.json" else {"torch_dtype": "bfloat16"}
    settings = json.loads((folder / place).read_text(encoding="utf-8"))
    change = asked if place == "config.json" else {"model_args": asked}
    write_json(folder / place, settings | change)
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    save_file({name: tensor.float() for name, tensor in tensors.items()}, file, METADATA)
    write_json(folder / place, settings)
    assert_agrees(Pair(folder, bundle), TEXTS)


def test_another_head(tmp_path: Path) -> None:
    tail = [Dense(64, 16)]
    pair = export_small(tmp_path, "big_bird", pooling=("weightedmean", "cls"), tail=tail)
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize(
    "changes",
    [
        {"position_embedding_type": "relative_key"},
        pytest.param({"hidden_act": "tanh"}, marks=FURTHER),
    ],
)
def test_variant_of_a_known_family(tmp_path: Path, changes: dict[str, str]) -> None:
    """Variants that the fused graph does not support are traced."""
    pair = export_small(tmp_path, "bert", config=changes)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "traced"
    assert_agrees(pair, TEXTS)


def test_missing_weights(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "big_bird", "big_bird")
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


def refusal(folder: Path) -> str:
    """Return the message of a refusal; assert that it contains no advice of other libraries."""
    with pytest.raises(UnsupportedModelError) as caught:
        export_model(str(folder), output=folder.with_name("bundle"))
    message = str(caught.value)
    for words in ("trust_remote_code", "export the bundle again", "Only [", "one of the following"):
        assert words not in message
    assert len(message) < 600
    assert not folder.with_name("bundle").exists()
    return message


def test_architecture_that_is_known_not_to_be_traceable(tmp_path: Path) -> None:
    """The model is refused because of its config, before the weights are read."""
    folder = make_small(tmp_path / "model", "bert")
    change_json(folder / "config.json", model_type="longformer")
    (folder / "model.safetensors").write_bytes(b"none")
    message = refusal(folder)
    for words in (
        "architecture longformer, which cannot be converted to a graph",
        "chunks",
        "another",
    ):
        assert words in message


def test_mixture_of_experts(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert")
    change_json(folder / "config.json", model_type="qwen3_moe", num_experts=8)
    assert "a mixture of experts" in refusal(folder)


def test_operators_that_a_bundle_may_not_contain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "OPERATORS", OPERATORS - {"Tanh"})
    message = refusal(make_small(tmp_path / "model", "big_bird", config={"hidden_act": "gelu_new"}))
    for words in (
        "architecture big_bird, which is not built from its weights and cannot be traced",
        "onnxscript: the traced graph needs the operators Tanh, which bundles may not contain",
        "Use sentence-transformers",
    ):
        assert words in message


def test_other_libraries_messages_are_short(tmp_path: Path) -> None:
    """The message does not list the two hundred architectures that transformers lists."""
    folder = make_small(tmp_path / "model", "bert")
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del content["model_type"]
    write_json(folder / "config.json", content)
    assert "its config.json has no model_type" in refusal(folder)
    write_json(folder / "config.json", {**content, "model_type": "hypercube"})
    assert "hypercube" in refusal(folder)
    (folder / "config.json").unlink()
    with pytest.raises(SourceError, match=r"config\.json is missing"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_weights_that_are_quantized(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert")
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq"})
    assert "config.json sets quantization_config" in refusal(folder)


def test_the_result_is_not_finite(tmp_path: Path) -> None:
    """Before there is a bundle, the error must not mention one, as the graph's own check does."""
    folder = make_small(tmp_path / "model", "bert", tail=[])
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in ("weight", "bias"):
        tensors[f"encoder.layer.1.output.LayerNorm.{name}"].fill_(torch.finfo(torch.float32).max)
    save_file(tensors, file, METADATA)
    with pytest.raises(
        ProofError, match=r"it refuses encode\(prompt=''\): the model gave NaN or infinity"
    ):
        export_model(str(folder), output=tmp_path / "bundle")
