"""Tests of the Llama family and Gemma 3, whose graphs are built from their weights."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from comparison import Pair, assert_agrees, embed_alone, export_small, original
from comparison import texts_of_every_length as every_length
from embedrt import Embedder
from embedrt.errors import ProofError, UnsupportedModelError
from embedrt_export import export_model
from model_folders import (
    BEFORE_5,
    DECODERS,
    METADATA,
    change_json,
    decoder_tokenizer,
    make_small,
    rename_weights,
    write_json,
)

LLAMAS = ["llama", "mistral", "qwen2", "qwen3"]
# Qwen 3 has all that the others of its kind have; what is not about a family has these two.
BY_KIND = [
    pytest.param(family, marks=[] if family in ("gemma3", "qwen3") else pytest.mark.slow)
    for family in DECODERS
]
MAX_TOKENS = 64
TEXTS = ["", "a", "the lazy dog", "How many people live in London?", "лиса 敏捷 😀 " * 20]

SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


def export_fused(parent: Path, family: str, **options: Any) -> Pair:
    """Export a small model; assert that its graph is built from its weights."""
    pair = export_small(parent, family, **options)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "fused"
    return pair


def assert_agrees_at_every_length(pair: Pair, longest: int = MAX_TOKENS + 9) -> None:
    with Embedder.load(pair.bundle) as embedder:
        texts = every_length(embedder, longest)
    assert set(texts) >= set(range(4, longest))
    assert_agrees(pair, list(texts.values()))


@pytest.mark.parametrize("family", DECODERS)
def test_agrees_at_every_length_and_past_the_maximum(
    exported: Callable[[str], Pair], family: str
) -> None:
    pair = exported(family)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "fused"
        assert embedder.max_tokens == MAX_TOKENS
    assert_agrees_at_every_length(pair)


@pytest.mark.parametrize("family", BY_KIND)
def test_agrees_at_every_position(tmp_path: Path, family: str) -> None:
    pair = export_fused(tmp_path, family, max_tokens=None, config={"max_position_embeddings": 40})
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == 40
    assert_agrees_at_every_length(pair, 49)


@pytest.mark.parametrize(
    ("window", "family"),
    [
        (1, "mistral"),
        (2, "qwen2"),
        (9, "qwen3"),
        pytest.param(1, "qwen2", marks=pytest.mark.slow),
        pytest.param(1, "qwen3", marks=pytest.mark.slow),
        pytest.param(2, "mistral", marks=pytest.mark.slow),
        pytest.param(2, "qwen3", marks=pytest.mark.slow),
        pytest.param(9, "mistral", marks=pytest.mark.slow),
        pytest.param(9, "qwen2", marks=pytest.mark.slow),
    ],
)
def test_sliding_windows(tmp_path: Path, family: str, window: int) -> None:
    """Llama has none."""
    config: dict[str, Any] = {"sliding_window": window}
    if family != "mistral":
        config |= {"use_sliding_window": True, "max_window_layers": 1}
    pair = export_fused(tmp_path, family, config=config)
    assert_agrees_at_every_length(pair)
    with Embedder.load(pair.bundle) as embedder:
        limited = embedder.encode("the lazy dog " * 8)
    folder = make_small(tmp_path / "unlimited", family)
    assert np.abs(embed_alone(original(folder), ["the lazy dog " * 8])[0] - limited).max() > 1e-3


@pytest.mark.parametrize(
    ("window", "bidirectional"),
    [
        (2, False),
        (5, True),
        (40, True),
        pytest.param(2, True, marks=pytest.mark.slow),
        pytest.param(5, False, marks=pytest.mark.slow),
        pytest.param(40, False, marks=pytest.mark.slow),
    ],
)
def test_windows_of_gemma(tmp_path: Path, window: int, *, bidirectional: bool) -> None:
    config = {"sliding_window": window, "use_bidirectional_attention": bidirectional}
    assert_agrees_at_every_length(export_fused(tmp_path, "gemma3", config=config))


@pytest.mark.parametrize("family", DECODERS)
def test_only_causal_encoders_ignore_what_follows(tmp_path: Path, family: str) -> None:
    """With CLS pooling, later tokens change the vectors of bidirectional encoders only."""
    pair = export_fused(tmp_path, family, pooling="cls")
    with Embedder.load(pair.bundle) as embedder:
        one, other = embedder.encode(["London is old", "London was a market"])
    assert (np.abs(one - other).max() < 1e-6) == (family != "gemma3")


@pytest.mark.skipif(BEFORE_5, reason="transformers 4 does not read it")
@pytest.mark.parametrize("family", LLAMAS)
def test_config_with_bidirectional_attention(tmp_path: Path, family: str) -> None:
    config: dict[str, Any] = {"is_causal": False}
    if family != "llama":
        config["sliding_window"] = 9
    if family.startswith("qwen"):
        config |= {"use_sliding_window": True, "max_window_layers": 1}
    pair = export_fused(tmp_path, family, config=config, pooling="cls")
    assert_agrees_at_every_length(pair)
    with Embedder.load(pair.bundle) as embedder:
        one, other = embedder.encode(["London is old", "London was a market"])
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("family", ["llama", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_scaled_rotations(tmp_path: Path, family: str, scaling: str) -> None:
    config = {"rope_scaling": SCALINGS[scaling], "rope_theta": 5000.0}
    pair = export_fused(tmp_path, family, config=config, max_tokens=100)
    assert_agrees_at_every_length(pair, 109)


def test_texts_for_which_rotations_would_be_scaled(tmp_path: Path) -> None:
    """The original embeds them, with rotations that depend on the longest text before."""
    config = {"rope_scaling": SCALINGS["dynamic"], "max_position_embeddings": 64}
    folder = make_small(tmp_path / "model", "llama", config=config)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 100})
    with pytest.raises(UnsupportedModelError, match=r"Set max_seq_length in .* to 64$"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_rotations_of_gemma(tmp_path: Path) -> None:
    config = {
        "rope_theta": 50_000.0,
        "rope_local_base_freq": 100.0,
        "rope_scaling": SCALINGS["linear"],
    }
    assert_agrees_at_every_length(export_fused(tmp_path, "gemma3", config=config))


@pytest.mark.parametrize("family", BY_KIND)
def test_long_texts(tmp_path: Path, family: str) -> None:
    """If texts can be long, full attention and two-sided windows are computed in blocks."""
    config = {"max_position_embeddings": 2048}
    pair = export_fused(tmp_path, family, config=config, max_tokens=1200)
    assert_agrees_at_every_length(pair)
    assert_agrees(pair, ["the lazy dog " * count for count in (70, 200, 500)])
    model = onnx.load(pair.bundle / "model.onnx", load_external_data=False)
    operators = Counter(node.op_type for node in model.graph.node)
    expected = {"MultiHeadAttention": 1, "Attention": 1}
    assert operators["GroupQueryAttention"] == (0 if family == "gemma3" else 2)
    assert {name: operators[name] for name in expected} == (
        expected if family == "gemma3" else dict.fromkeys(expected, 0)
    )


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 4}),
        ("llama", {"num_key_value_heads": 1, "head_dim": 24}),
        ("qwen3", {"attention_bias": True, "rms_norm_eps": 0.01}),
        ("qwen3", {"hidden_act": "gelu"}),
        ("mistral", {"hidden_act": "relu"}),
        ("mistral", {"head_dim": None}),
        ("gemma3", {"attention_bias": True, "num_key_value_heads": 2}),
        ("gemma3", {"hidden_activation": "silu", "query_pre_attn_scalar": 3}),
    ],
    ids=str,
)
def test_settings(tmp_path: Path, family: str, config: dict[str, Any]) -> None:
    assert_agrees(export_fused(tmp_path, family, config=config), TEXTS)


LONG = {
    "rope_type": "longrope",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
}


@pytest.mark.skipif(BEFORE_5, reason="torch's exporter traces it as transformers 5 writes it")
@pytest.mark.parametrize(
    "config",
    [{"head_dim": 12}, pytest.param({"rope_scaling": LONG}, marks=pytest.mark.slow)],
    ids=str,
)
def test_unsupported_settings_are_traced(tmp_path: Path, config: dict[str, Any]) -> None:
    pair = export_small(tmp_path, "llama", config=config)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "traced"
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_checkpoint_of_half_precision(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    """`config.json` names the dtype, under different keys in transformers 4 and 5."""
    folder = make_small(tmp_path / family, family)
    model = transformers.AutoModel.from_pretrained(folder)
    model.to(dtype).save_pretrained(folder)
    assert load_file(folder / "model.safetensors")["norm.weight"].dtype == dtype
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "fused"
        found = embedder.encode(TEXTS)
    in_float32 = SentenceTransformer(
        str(folder), device="cpu", model_kwargs={"dtype": torch.float32}
    )
    assert np.abs(found - embed_alone(in_float32, TEXTS)).max() <= 2e-6


@pytest.mark.parametrize("files", ["safetensors", "torch"])
def test_checkpoint_in_shards(tmp_path: Path, files: str) -> None:
    folder = make_small(tmp_path / "qwen3", "qwen3")
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    suffix = "safetensors" if files == "safetensors" else "bin"
    stem = "model" if files == "safetensors" else "pytorch_model"
    shards = {f"{stem}-0000{number + 1}-of-00003.{suffix}": names[number::3] for number in range(3)}
    for name, held in shards.items():
        tensors = {key: whole[key] for key in held}
        if files == "safetensors":
            save_file(tensors, folder / name, METADATA)
        else:
            torch.save(tensors, folder / name)
    index = {key: name for name, held in shards.items() for key in held}
    (folder / f"{stem}.{suffix}.index.json").write_text("{}", encoding="utf-8")
    change_json(folder / f"{stem}.{suffix}.index.json", metadata={}, weight_map=index)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("family", BY_KIND)
def test_checkpoint_of_a_language_model(tmp_path: Path, family: str) -> None:
    """Such a checkpoint has a prefix before the encoder's names, and may have a head."""
    folder = make_small(tmp_path / family, family)
    rename_weights(folder, lambda name: f"model.{name}")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, file, METADATA)
    if family == "gemma3" and BEFORE_5:
        # In this case, the original has random weights.
        with pytest.raises(ProofError):
            export_model(str(folder), output=tmp_path / "bundle")
        return
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize("family", ["qwen3", "mistral"])
@pytest.mark.parametrize("end", ["<|endoftext|>", ""])
def test_last_token(tmp_path: Path, family: str, end: str) -> None:
    """Last-token pooling agrees with an end token and without, where "" has no tokens."""
    pair = export_fused(
        tmp_path,
        family,
        pooling="lasttoken",
        tokenizer=decoder_tokenizer(end),
        prompts={"query": "Instruct: find what answers it\nQuery: ", "document": ""},
    )
    assert_agrees(pair, [text for text in TEXTS if text or end])
    model = original(pair.folder)
    with Embedder.load(pair.bundle) as embedder:
        assert np.abs(embedder.encode_query(TEXTS) - alone(model.encode_query)).max() <= 2e-6
        texts = [text for text in TEXTS if text or end]
        found = embedder.encode_document(texts)
    assert np.abs(found - np.stack([model.encode_document(t) for t in texts])).max() <= 2e-6


def alone(embed: Callable[[str], Any]) -> np.ndarray[Any, Any]:
    return np.stack([embed(text) for text in TEXTS])


def test_text_of_no_tokens(tmp_path: Path) -> None:
    """sentence-transformers fails on a text without tokens; the bundle returns zeros."""
    pair = export_fused(tmp_path, "qwen3", pooling="lasttoken", tokenizer=decoder_tokenizer(""))
    with pytest.raises(Exception, match="0"):
        original(pair.folder).encode("")
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.encode("").tolist() == [0.0] * 32
        assert embedder.encode(["a", ""])[1].tolist() == [0.0] * 32


@pytest.mark.parametrize("family", BY_KIND)
def test_int8(tmp_path: Path, family: str) -> None:
    folder = make_small(tmp_path / family, family)
    bundle = export_model(str(folder), output=tmp_path / "bundle", precision="int8")
    with Embedder.load(bundle) as embedder:
        assert embedder.manifest.quantization
        assert embedder.manifest.builder == "fused"
        texts = list(every_length(embedder, MAX_TOKENS + 9).values())
        together = embedder.encode(texts * 2)
        for text, *found in zip(texts, together, together[len(texts) :], strict=False):
            one = embedder.encode(text).tobytes()
            assert [vector.tobytes() for vector in found] == [one, one]
    graph = onnx.load(bundle / "model.onnx", load_external_data=False).graph
    words = next(weight for weight in graph.initializer if weight.name == "word_embeddings")
    assert words.data_type == onnx.TensorProto.INT8


@pytest.mark.parametrize("family", BY_KIND)
def test_every_weight_of_another_shape_is_named(tmp_path: Path, family: str) -> None:
    folder = make_small(tmp_path / family, family)
    file = folder / "model.safetensors"
    whole = load_file(file)
    for name in whole:
        if "embed_tokens" in name:
            continue  # its number of rows may vary
        for spoiled in (whole[name][None], whole[name][..., :-1]):
            save_file({**whole, name: spoiled.contiguous()}, file, METADATA)
            with pytest.raises(UnsupportedModelError, match="the weights") as caught:
                export_model(str(folder), output=tmp_path / "bundle")
            assert "expected" in str(caught.value) or name in str(caught.value)


@pytest.mark.parametrize("family", LLAMAS)
def test_graph(exported: Callable[[str], Pair], family: str) -> None:
    """No operator of a causal graph computes the scores of all pairs of tokens."""
    model = onnx.load(exported(family).bundle / "model.onnx")
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["GroupQueryAttention"] == 2
    assert not operators.keys() & {"Attention", "Softmax", "Trilu", "If", "Loop", "Scan"}
    assert {node.domain for node in model.graph.node} == {"", "com.microsoft"}


def test_bundle_does_not_need_the_models_folder(tmp_path: Path) -> None:
    """Weights are memory-mapped during the export, but the bundle does not need their folder."""
    pair = export_small(tmp_path, "qwen3")
    shutil.rmtree(pair.folder)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.encode("the lazy dog").shape == (32,)
