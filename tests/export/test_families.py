"""Tests of encoders whose graph is built from their weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import transformers
from safetensors.torch import load_file, save_file

from comparison import SPECIAL_TEXTS, Pair, assert_agrees, export_small, texts_of_every_length
from embedrt import Embedder
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from model_folders import HIDDEN, METADATA, change_json, make_small, rename_weights

FAMILIES = ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert"]
MAX_TOKENS = 64
TEXTS = ["", "a", "the lazy dog", "How many people live in London?", "лиса 敏捷 😀 " * 20]


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_at_every_length_and_past_the_maximum(
    exported: Callable[[str], Pair], family: str
) -> None:
    pair = exported(family)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == MAX_TOKENS
        assert embedder.manifest.builder == "fused"
        texts = texts_of_every_length(embedder, MAX_TOKENS + 20)
    assert set(texts) >= {2, *range(4, MAX_TOKENS + 20)}
    assert_agrees(pair, list(texts.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_at_every_position(tmp_path: Path, family: str) -> None:
    changes = {"max_position_embeddings": 40}
    pair = export_small(tmp_path, family, max_tokens=32, config=changes)
    with Embedder.load(pair.bundle) as embedder:
        texts = texts_of_every_length(embedder, 45)
    assert_agrees(pair, list(texts.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_by_name(exported: Callable[[str], Pair], family: str) -> None:
    assert_agrees(exported(family), SPECIAL_TEXTS)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_padding_token_takes_no_position(exported: Callable[[str], Pair], family: str) -> None:
    """Without this, the test above could pass for a graph that ignores padding."""
    with Embedder.load(exported(family).bundle) as embedder:
        with_padding, with_another = embedder.encode(["a <pad> b c d", "a <mask> b c d"])
    assert np.abs(with_padding - with_another).max() > 1e-3


@pytest.mark.parametrize(
    ("family", "setting", "activation"),
    [
        ("bert", "hidden_act", "relu"),
        ("bert", "hidden_act", "gelu_new"),
        ("bert", "hidden_act", "gelu_pytorch_tanh"),
        ("distilbert", "activation", "relu"),
        pytest.param("distilbert", "activation", "gelu_new", marks=pytest.mark.slow),
        pytest.param("distilbert", "activation", "gelu_pytorch_tanh", marks=pytest.mark.slow),
    ],
)
def test_activations(tmp_path: Path, family: str, setting: str, activation: str) -> None:
    pair = export_small(tmp_path, family, config={setting: activation})
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoint_of_a_masked_language_model(tmp_path: Path, family: str) -> None:
    """Such a checkpoint has a prefix before the encoder's names, a head, and no pooler."""
    folder = make_small(tmp_path / family, family)
    prefix = "roberta." if family == "xlm-roberta" else f"{family}."
    rename_weights(folder, lambda name: prefix + name)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


def test_layer_norms_named_as_tensorflow_did(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "bert", "bert")
    rename_weights(
        folder,
        lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ),
    )
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


# transformers 4 prunes heads, except MPNet's, whose bias it does not prune with them.
PRUNES = hasattr(transformers.PreTrainedModel, "prune_heads")


def prune(folder: Path, heads: dict[int, list[int]]) -> None:
    model = transformers.AutoModel.from_pretrained(folder)
    model.prune_heads(heads)
    model.save_pretrained(folder)


@pytest.mark.skipif(not PRUNES, reason="transformers 5 loads no pruned checkpoint")
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert"])
@pytest.mark.parametrize("heads", [{0: [1]}, {0: [3], 1: [0, 2]}])
def test_pruned_heads(tmp_path: Path, family: str, heads: dict[int, list[int]]) -> None:
    folder = make_small(tmp_path / family, family)
    prune(folder, heads)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "fused"
    assert_agrees(pair, TEXTS)


@pytest.mark.skipif(not PRUNES, reason="transformers 5 loads no pruned checkpoint")
def test_pruned_heads_in_int8(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "bert", "bert")
    prune(folder, {0: [1], 1: [0, 1, 2]})
    bundle = export_model(str(folder), output=tmp_path / "bundle", precision="int8")
    with Embedder.load(bundle) as embedder:
        assert embedder.manifest.quantization
        assert embedder.manifest.quantization.scheme == "static"


@pytest.mark.parametrize(
    ("heads", "reason"),
    [
        ({"0": [1]}, "leaves 24 channels, and the weights have"),
        ({"7": [1]}, "of layer 7, and there are 2 layers"),
        ({"1": [4]}, "of 4 heads"),
    ],
)
def test_pruned_heads_that_contradict_the_model(
    tmp_path: Path, heads: dict[str, list[int]], reason: str
) -> None:
    folder = make_small(tmp_path / "bert", "bert")
    change_json(folder / "config.json", pruned_heads=heads)
    with pytest.raises(UnsupportedModelError, match=reason):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize(
    "family",
    [
        *("bert", "mpnet"),
        *(
            pytest.param(family, marks=pytest.mark.slow)
            for family in ("roberta", "xlm-roberta", "distilbert")
        ),
    ],
)
def test_every_weight_of_another_shape_is_named(tmp_path: Path, family: str) -> None:
    """The error comes before the graph is built, and names the weight and the expected shape."""
    folder = make_small(tmp_path / family, family)
    file = folder / "model.safetensors"
    whole = load_file(file)
    for name in [name for name in whole if "pooler" not in name]:
        if "word_embeddings" in name or "token_type" in name:
            continue  # their number of rows may vary
        for spoiled in (whole[name][None], whole[name][..., :-1]):
            save_file({**whole, name: spoiled.contiguous()}, file, METADATA)
            with pytest.raises(
                UnsupportedModelError, match=r"the weights( of .+ have the shape| are of another)"
            ) as caught:
                export_model(str(folder), output=tmp_path / "bundle")
            assert "expected" in str(caught.value) or name in str(caught.value)


def test_heads_that_do_not_share_the_width_evenly(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "bert", "bert")
    change_json(folder / "config.json", num_attention_heads=5)
    with pytest.raises(UnsupportedModelError, match="5 attention heads"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_config_changed_by_the_settings(tmp_path: Path) -> None:
    """Of two layers, only one runs, in a built and in a traced graph."""
    for name, changes in {
        "one": {"num_hidden_layers": 1},
        "traced": {"num_hidden_layers": 1, "hidden_act": "tanh"},
    }.items():
        folder = make_small(tmp_path / name, "bert")
        change_json(folder / "sentence_bert_config.json", config_args=changes)
        pair = Pair(folder, export_model(str(folder), output=tmp_path / f"{name}-bundle"))
        with Embedder.load(pair.bundle) as embedder:
            assert embedder.manifest.builder == ("traced" if name == "traced" else "fused")
        assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_models_distinguish_texts(exported: Callable[[str], Pair], family: str) -> None:
    """If all vectors were alike, agreement with the original would prove nothing."""
    texts = ["the lazy dog", "a market", "How many people live in London?", "敏捷的狐狸"]
    with Embedder.load(exported(family).bundle) as embedder:
        vectors = embedder.encode(texts)
    scores = vectors @ vectors.T - np.eye(len(texts))
    assert scores.max() < 0.98


@pytest.mark.parametrize("family", FAMILIES)
def test_graph(exported: Callable[[str], Pair], family: str) -> None:
    model = onnx.load(exported(family).bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 23)]
    assert [value.name for value in model.graph.input] == ["input_ids"]
    assert _type_of(model.graph.input[0]) == (onnx.TensorProto.INT64, ["batch", "tokens"])
    assert [value.name for value in model.graph.output] == ["embedding"]
    assert _type_of(model.graph.output[0]) == (onnx.TensorProto.FLOAT, ["batch", HIDDEN])
    operators = Counter(node.op_type for node in model.graph.node)
    assert {node.domain for node in model.graph.node} == {""}
    assert operators["Attention"] == 2
    assert not operators.keys() & {"SkipLayerNormalization", "If", "Loop", "Scan"}
    assert len(operators) <= 25


def _type_of(value: onnx.ValueInfoProto) -> tuple[int, list[str | int]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, [side.dim_param or side.dim_value for side in tensor.shape.dim]
