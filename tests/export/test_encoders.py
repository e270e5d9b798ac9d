"""Tests of encoders with rotary positions, attention windows, gated layers or pre-normalization."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from comparison import SPECIAL_TEXTS, Pair, assert_agrees, export_small, texts_of_every_length
from embedrt import Bundle, Embedder
from embedrt.bundle.quantization import Quantization
from embedrt.bundle.weights import WEIGHTS
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from model_folders import BEFORE_5, METADATA, change_json, is_known, make_small, write_json

FAMILIES = [
    family
    for family in (
        "albert",
        "data2vec-text",
        "electra",
        "ernie",
        "eurobert",
        "gte",
        "jina_embeddings_v3",
        "modernbert",
        "mt5",
        "nomic_bert",
        "rembert",
        "roformer",
        "t5",
        "umt5",
        "xlm-roberta-xl",
    )
    if is_known(family)
]
# One of each kind of layer: shared, rotary and gated, with windows, without biases.
KINDS = ("albert", "gte", "modernbert", "t5")
BY_KIND = [
    pytest.param(family, marks=[] if family in KINDS else pytest.mark.slow) for family in FAMILIES
]
MAX_TOKENS = 64
TEXTS = ["", "a", "the lazy dog", "How many people live in London?", "лиса 敏捷 😀 " * 20]


needs = pytest.mark.skipif
# Beside transformers 4, other tracers than torch's draw them, which `make test-optimum` is for.
FURTHER_TRACED = () if BEFORE_5 else pytest.mark.slow


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_at_every_length_and_past_the_maximum(
    exported: Callable[[str], Pair], family: str
) -> None:
    """For texts of more than 40 tokens, this ModernBERT computes attention in blocks."""
    pair = exported(family)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == MAX_TOKENS
        assert embedder.manifest.builder == "fused"
        assert embedder.manifest.family == family
        texts = texts_of_every_length(embedder, MAX_TOKENS + 10)
    assert_agrees(pair, list(texts.values()))


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_by_name(exported: Callable[[str], Pair], family: str) -> None:
    assert_agrees(exported(family), SPECIAL_TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_distinguish_texts(exported: Callable[[str], Pair], family: str) -> None:
    """If all vectors were alike, agreement with the original would prove nothing."""
    texts = ["the lazy dog", "97 42", "How many people live in London?", "敏捷的狐狸 😀 лиса"]
    with Embedder.load(exported(family).bundle) as embedder:
        vectors = embedder.encode(texts)
    assert (vectors @ vectors.T - np.eye(len(texts))).max() < 0.995


@pytest.mark.parametrize("family", FAMILIES)
def test_graph(exported: Callable[[str], Pair], family: str) -> None:
    model = onnx.load(exported(family).bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Attention"] == (4 if family == "modernbert" else 2)
    assert not operators.keys() & {"If", "Loop", "Scan", "Softmax", "Cos", "Sin"}


@pytest.mark.parametrize("family", BY_KIND)
def test_int8(exported: Callable[[str], Pair], tmp_path: Path, family: str) -> None:
    pair = exported(family)
    bundle = export_model(str(pair.folder), output=tmp_path / "int8", precision="int8")
    quantization = Bundle.open(bundle).manifest.quantization
    assert isinstance(quantization, Quantization)
    assert quantization.min_cosine >= 0.985
    if family not in ("t5", "mt5", "umt5"):  # the gates amplify these random weights too much
        assert quantization.scheme == "static"
    graph = onnx.load(bundle / "model.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    assert operators["Gemm"] == sum(w.name.endswith(".outliers") for w in graph.initializer)
    fp32 = onnx.load(pair.bundle / "model.onnx").graph
    products = sum(node.op_type == "Gemm" for node in fp32.node)
    assert operators["MatMulIntegerToFloat"] == products
    (table,) = (weight for weight in graph.initializer if weight.name == "word_embeddings")
    assert table.data_type == onnx.TensorProto.INT8
    with Embedder.load(bundle, threads=2) as embedder:
        texts = [" ".join(["fox", "лиса"] * count) for count in (0, 1, 2, 9, 25, 30)] * 3
        alone = [embedder.encode(text).tobytes() for text in texts]
        assert [vector.tobytes() for vector in embedder.encode(texts)] == alone


# Settings of a config, each with one of the families that read it. All but the first of each family
# are slow.
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("albert", {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2}),
    ("albert", {"hidden_act": "gelu_new"}),
    ("electra", {"embedding_size": 32}),
    ("ernie", {"use_task_id": False}),
    ("eurobert", {"attention_bias": True, "mlp_bias": True}),
    ("eurobert", {"num_key_value_heads": 4, "head_dim": 12}),
    ("eurobert", {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}}),
    ("gte", {"type_vocab_size": 0}),
    ("gte", {"hidden_act": "silu", "rope_parameters": {"rope_type": "default", "rope_theta": 50}}),
    ("gte", {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
    ("jina_embeddings_v3", {"layer_norm_eps": 0.01}),
    ("modernbert", {"local_attention": 9, "global_attn_every_n_layers": 3}),
    ("modernbert", {"global_attn_every_n_layers": 1}),
    ("modernbert", {"global_rope_theta": 300.0, "local_rope_theta": 20.0}),
    ("modernbert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True}),
    ("modernbert", {"hidden_activation": "silu", "norm_eps": 0.01}),
    ("modernbert", {"classifier_pooling": "mean"}),
    ("nomic_bert", {"head_dim": 12, "type_vocab_size": 1}),
    ("nomic_bert", {"hidden_act": "gelu"}),
    ("roformer", {"embedding_size": 32, "num_attention_heads": 2}),
    ("t5", {"feed_forward_proj": "gated-gelu"}),
    ("t5", {"feed_forward_proj": "gated-silu", "layer_norm_epsilon": 0.01}),
    ("t5", {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 200}),
    ("t5", {"feed_forward_proj": "gated-gelu", "dense_act_fn": "silu"}),
    ("mt5", {"feed_forward_proj": "relu", "d_kv": 8}),
    ("umt5", {"feed_forward_proj": "relu", "relative_attention_max_distance": 200}),
]


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        pytest.param(
            family, changes, marks=[] if family not in dict(SETTINGS[:n]) else pytest.mark.slow
        )
        for n, (family, changes) in enumerate(SETTINGS)
    ],
)
def test_settings_of_the_config(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    if not is_known(family):
        pytest.skip("for a newer transformers")
    pair = export_small(tmp_path, family, config=changes)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "fused"
    assert_agrees(pair, [*TEXTS, "a lazy dog " * 30])


LATER = {"rope_type": "of_tomorrow", "factor": 2.0}
AFTER_4 = needs(not is_known("eurobert"), reason="for a newer transformers")
MODERN: dict[str, Any] = {  # with the keys of transformers 5
    "layer_types": [
        "sliding_attention",
        "full_attention",
        "sliding_attention",
        "sliding_attention",
    ],
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 300.0},
        "sliding_attention": {"rope_type": "linear", "rope_theta": 20.0, "factor": 3.0},
    },
}


@pytest.mark.parametrize(
    ("family", "named"),
    [
        ("qwen3", {"rope_scaling": LATER}),
        pytest.param(  # transformers 4 reads the kind itself
            "llama", {"rope_scaling": {"rope_type": ["linear"], "factor": 2.0}}, marks=AFTER_4
        ),
        pytest.param(
            "modernbert",
            {"rope_parameters": {**MODERN["rope_parameters"], "full_attention": LATER}},
            marks=AFTER_4,
        ),
        pytest.param("modernbert", {"local_rope_theta": None}, marks=AFTER_4),
        pytest.param(
            "gte", {"rope_parameters": {"rope_type": "default", "rope_theta": "5"}}, marks=AFTER_4
        ),
    ],
)
def test_rotary_positions_that_transformers_does_not_compute(
    tmp_path: Path, family: str, named: dict[str, Any]
) -> None:
    """As a newer transformers describes them; the installed one checks no values."""
    folder = make_small(tmp_path / "model", family)
    file = folder / "config.json"
    config = json.loads(file.read_bytes())
    write_json(file, {**{key: config[key] for key in config if "rope" not in key}, **named})
    with pytest.raises(
        UnsupportedModelError, match=r"rotary positions .* describes by \{.*upgrade"
    ):
        export_model(str(folder), output=tmp_path / "bundle")


@needs(not is_known("eurobert"), reason="for a newer transformers")
@pytest.mark.parametrize(
    "names",
    [
        list(MODERN),
        *(pytest.param([name], marks=pytest.mark.slow) for name in MODERN),
    ],
)
def test_layers_of_modernbert_one_by_one(tmp_path: Path, names: list[str]) -> None:
    changes = {name: MODERN[name] for name in names}
    pair = export_small(tmp_path, "modernbert", config=changes)
    assert_agrees(pair, [*TEXTS, "a lazy dog " * 30])


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        pytest.param("modernbert", {"hidden_activation": "tanh"}, marks=FURTHER_TRACED),
        pytest.param("roformer", {"rotary_value": True}, marks=FURTHER_TRACED),
    ],
)
def test_unsupported_settings_are_traced(
    tmp_path: Path, family: str, changes: dict[str, object]
) -> None:
    pair = export_small(tmp_path, family, config=changes)
    assert_traced(pair)


def test_an_unsupported_activation_is_traced(traced_electra: Pair) -> None:
    assert_traced(traced_electra)


def assert_traced(pair: Pair) -> None:
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.builder == "traced"
    assert_agrees(pair, TEXTS)


def test_position_buckets_with_an_invalid_range(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "t5", "t5")
    change_json(folder / "config.json", relative_attention_max_distance=8)
    with pytest.raises(UnsupportedModelError, match="relative_attention_max_distance to 8"):
        export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("family", ["modernbert", "nomic_bert"])
def test_texts_longer_than_the_positions_of_the_config(tmp_path: Path, family: str) -> None:
    """Rotary positions are unlimited, and sentence-transformers obeys max_seq_length."""
    if not is_known(family):
        pytest.skip("for a newer transformers")
    folder = make_small(tmp_path / "model", family, config={"max_position_embeddings": 40})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 60})
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == 60
    assert_agrees(pair, [*TEXTS, "fox " * 50, "fox " * 70])


@needs(not is_known("nomic_bert"), reason="for a newer transformers")
def test_keys_of_the_authors_own_code(tmp_path: Path) -> None:
    """Keys that only the authors' code obeys are refused, although transformers ignores them."""
    folder = make_small(tmp_path / "model", "nomic_bert")
    harmless = {"activation_function": "swiglu", "rotary_emb_fraction": 1.0, "prenorm": False}
    change_json(folder / "config.json", **harmless)
    export_model(str(folder), output=tmp_path / "bundle")
    for key, value in {"rotary_emb_fraction": 0.5, "prenorm": True, "use_rms_norm": True}.items():
        change_json(folder / "config.json", **{**harmless, key: value})
        with pytest.raises(UnsupportedModelError, match=f"sets {key} to {value}: only the author"):
            export_model(str(folder), output=tmp_path / "bundle")


@pytest.mark.parametrize("family", BY_KIND)
def test_every_weight_of_another_shape_is_named(tmp_path: Path, family: str) -> None:
    folder = make_small(tmp_path / family, family)
    file = folder / "model.safetensors"
    whole = load_file(file)
    free = ("pooler", "word_embeddings", "token_type", "tok_embeddings", "shared", "embed_tokens")
    for name in [name for name in whole if not any(part in name for part in free)]:
        if family in ("t5", "mt5", "umt5") and name.startswith("decoder."):
            continue  # the tensor is not read
        for spoiled in (whole[name][None], whole[name][..., :-1]):
            save_file({**whole, name: spoiled.contiguous()}, file, METADATA)
            with pytest.raises(UnsupportedModelError, match="the weights") as caught:
                export_model(str(folder), output=tmp_path / "bundle")
            assert "expected" in str(caught.value) or name in str(caught.value)


def unpack(tensors: dict[str, Tensor], packed: str, names: list[str]) -> None:
    """Replace packed tensors by their parts, in all layers, weights and biases."""
    for part in ("weight", "bias"):
        for whole in [name for name in tensors if name.endswith(f"{packed}.{part}")]:
            prefix = whole.removesuffix(f"{packed}.{part}")
            rows = tensors.pop(whole).chunk(len(names))
            for name, own in zip(names, rows, strict=True):
                tensors[f"{prefix}{name}.{part}"] = own.clone()


PROJECTIONS = [f"self_attn.{part}_proj" for part in "qkv"]
# The tensors that the authors' own code packs, and its names that differ from transformers'.
AUTHORS: dict[str, tuple[dict[str, list[str]], dict[str, str]]] = {
    "gte": (
        {
            "attention.qkv_proj": PROJECTIONS,
            "mlp.up_gate_proj": ["mlp.up_proj", "mlp.gate_proj"],
        },
        {
            "encoder.layer.": "layers.",
            "attention.o_proj": "self_attn.o_proj",
            "attn_ln": "post_attention_layernorm",
            "mlp_ln": "post_mlp_layernorm",
        },
    ),
    "jina_embeddings_v3": (
        {"mixer.Wqkv": PROJECTIONS},
        {
            "encoder.layers.": "layers.",
            "emb_ln": "embeddings.LayerNorm",
            "mixer.out_proj": "self_attn.o_proj",
            "norm1": "post_attention_layernorm",
            "norm2": "post_mlp_layernorm",
        },
    ),
    "nomic_bert": (
        {"attn.Wqkv": PROJECTIONS},
        {
            "encoder.layers.": "layers.",
            "emb_ln": "embeddings.LayerNorm",
            "attn.out_proj": "self_attn.o_proj",
            "fc11": "up_proj",
            "fc12": "gate_proj",
            "fc2": "down_proj",
            "norm1": "post_attention_layernorm",
            "norm2": "post_mlp_layernorm",
        },
    ),
}


@needs(not is_known("gte"), reason="for a newer transformers")
@pytest.mark.parametrize("family", AUTHORS)
def test_names_of_transformers_and_of_the_authors(tmp_path: Path, family: str) -> None:
    """Both naming schemes, which transformers can load, give bundles with the same bytes."""
    folder = make_small(tmp_path / "model", family)
    authors = export_model(str(folder), output=tmp_path / "authors")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    packed, renamed = AUTHORS[family]
    assert not any("self_attn" in name for name in tensors)
    for name, parts in packed.items():
        unpack(tensors, name, parts)
    for old, new in renamed.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    save_file(tensors, file, METADATA)
    bundle = export_model(str(folder), output=tmp_path / "transformers")
    with Embedder.load(authors) as theirs, Embedder.load(bundle) as same:
        assert theirs.encode(TEXTS).tobytes() == same.encode(TEXTS).tobytes()


PREFIXES = [
    ("albert", "albert."),
    ("data2vec-text", "data2vec_text."),
    ("electra", "electra."),
    ("ernie", "ernie."),
    ("eurobert", "model."),
    ("gte", "gte."),
    ("gte", "new."),
    ("modernbert", "model."),
    ("nomic_bert", "nomic_bert."),
    ("rembert", "rembert."),
    ("roformer", "roformer."),
    ("xlm-roberta-xl", "roberta."),
]


@pytest.mark.parametrize(("family", "prefix"), PREFIXES)
def test_weights_of_a_model_with_a_head(tmp_path: Path, family: str, prefix: str) -> None:
    """Such checkpoints, which most on the hub are, have a prefix before the encoder's names."""
    if not is_known(family):
        pytest.skip("for a newer transformers")
    folder = make_small(tmp_path / "model", family)
    file = folder / "model.safetensors"
    tensors = {prefix + name: tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, METADATA)
    pair = Pair(folder, export_model(str(folder), output=tmp_path / "bundle"))
    assert_agrees(pair, TEXTS)


def test_t5_with_its_decoder(tmp_path: Path) -> None:
    """The decoder's weights are not read, as in sentence-transformers."""
    folder = make_small(tmp_path / "model", "t5")
    without = export_model(str(folder), output=tmp_path / "without")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    assert not any(name.startswith("decoder.") for name in tensors)
    whole = transformers.T5Model(transformers.T5Config.from_pretrained(folder)).state_dict()
    more = {name: tensor for name, tensor in whole.items() if name.startswith("decoder.block")}
    assert more
    save_file({**tensors, **more}, file, METADATA)
    bundle = export_model(str(folder), output=tmp_path / "with")
    with Embedder.load(without) as one, Embedder.load(bundle) as other:
        assert one.encode(TEXTS).tobytes() == other.encode(TEXTS).tobytes()


def test_shared_layers_are_stored_once(tmp_path: Path) -> None:
    sizes = []
    for layers in (2, 6):
        folder = make_small(
            tmp_path / str(layers),
            "albert",
            config={"num_hidden_layers": layers, "intermediate_size": 512},
        )
        for precision in ("fp32", "int8"):
            bundle = export_model(
                str(folder), output=tmp_path / f"{layers}-{precision}", precision=precision
            )
            sizes.append((bundle / WEIGHTS).stat().st_size)
    assert sizes[:2] == sizes[2:]


def test_a_text_at_every_position(tmp_path: Path) -> None:
    """The text exceeds the window of every local layer and uses the last position of the tables."""
    pair = export_small(tmp_path, "modernbert", max_tokens=256)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.max_tokens == 256
        texts = [" ".join(["fox"] * count) for count in (80, 100, 250, 254, 300)]
        together = embedder.encode(texts * 3)
        for text, vector in zip(texts * 3, together, strict=True):
            assert embedder.encode(text).tobytes() == vector.tobytes()
    assert_agrees(pair, texts)
    assert Bundle.open(pair.bundle).manifest.agreement


def test_the_window_matters(tmp_path: Path) -> None:
    """Without this, a graph that ignores windows would pass the tests above."""
    pair = export_small(tmp_path, "modernbert")
    model = SentenceTransformer(str(pair.folder), device="cpu", local_files_only=True)
    text = " ".join(["fox", "dog", "lazy"] * 20)
    narrow = model.encode(text)
    change_json(pair.folder / "config.json", local_attention=256)
    wide = SentenceTransformer(str(pair.folder), device="cpu", local_files_only=True).encode(text)
    assert np.abs(narrow - wide).max() > 1e-3
