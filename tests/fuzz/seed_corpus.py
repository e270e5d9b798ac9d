"""Small valid bundles that the fuzzer mutates, covering many operators and tokenizers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from tokenizers import pre_tokenizers as pre

from embedrt.bundle.graph_rules import INPUT, OUTPUT
from embedrt.bundle.manifest import Agreement, Manifest
from embedrt.bundle.weights import move_weights
from tiny_bundle import (
    FLOAT,
    INT64,
    Field,
    message,
    node,
    tensor,
    tiny_graph,
    tiny_manifest,
    tiny_tokenizer,
    value,
)

ROWS, WIDTH = 64, 8
EMPTY_MAP = (2048).to_bytes(4, "little") + bytes(2048)  # a character map without entries
TEXTS = ["", "w1 w2", "Hello, wörld! a.b", "w3 " * 40]

LAX = Agreement(  # the probes of the encoder layer are arbitrary
    reference="none",
    texts=1,
    max_difference=0.0,
    tolerance=1e9,
    min_cosine=0.0,
    same_bytes=True,
)

Files = dict[str, bytes]


def integer(name: str, number: int) -> Field:
    """Return an integer attribute; negative numbers are encoded as in protobuf."""
    return 5, message((1, name), (3, number % (1 << 64)), (20, 2))


HEADS, KEY_HEADS = integer("q_num_heads", 2), integer("kv_num_heads", 2)


def layer_graph() -> bytes:
    """Return one encoder layer: attention, norms, quantization, pooling, normalization."""
    nodes = [
        node("Gather", ["table", INPUT], "rows"),
        node("LayerNormalization", ["rows", "scale", "shift"], "x", integer("axis", -1)),
        node("Reshape", ["x", "to_flat"], "flat"),
        node("Gemm", ["flat", "packed", "bias"], "qkv"),
        node("Shape", [INPUT], "shape"),
        node("Concat", ["shape", "three_widths"], "to_deep", integer("axis", 0)),
        node("Reshape", ["qkv", "to_deep"], "deep"),
        node("Split", ["deep", "widths"], "q", (2, "k"), (2, "v"), integer("axis", 2)),
        node("Attention", ["q", "k", "v"], "attended", HEADS, KEY_HEADS),
        node("Reshape", ["attended", "to_flat"], "attended_flat"),
        node("Add", ["attended_flat", "flat"], "y"),
        node("Gelu", ["y"], "z"),
        node("QuantizeLinear", ["z", "step", "zero"], "quantized"),
        node("Cast", ["quantized"], "floats", integer("to", FLOAT)),
        node("Concat", ["shape", "width"], "to_rows", integer("axis", 0)),
        node("Reshape", ["floats", "to_rows"], "again"),
        node("Slice", ["shape", "one", "two"], "tokens"),
        node("Concat", ["one", "one", "tokens"], "target", integer("axis", 0)),
        node("Expand", ["ones", "target"], "averaging"),
        node("MatMul", ["averaging", "again"], "summed"),
        node("Squeeze", ["summed", "one"], "pooled"),
        node("ReduceL2", ["pooled", "minus"], "norms"),
        node("Max", ["norms", "least"], "length"),
        node("Div", ["pooled", "length"], OUTPUT),
    ]
    random = np.random.default_rng(5)
    tensors: dict[str, Any] = {
        "table": random.normal(size=(ROWS, WIDTH)).astype(np.float32),
        "scale": np.ones(WIDTH, np.float32),
        "shift": np.zeros(WIDTH, np.float32),
        "packed": random.normal(size=(WIDTH, 3 * WIDTH)).astype(np.float32),
        "bias": np.zeros(3 * WIDTH, np.float32),
        "step": np.array(0.05, np.float32),
        "ones": np.ones((1, 1, 1), np.float32),
        "least": np.array(1e-12, np.float32),
        "to_flat": np.array([-1, WIDTH]),
        "width": np.array([WIDTH]),
        "widths": np.array([WIDTH] * 3),
        "three_widths": np.array([3 * WIDTH]),
        "one": np.array([1]),
        "two": np.array([2]),
        "minus": np.array([-1]),
    }
    zero = message((2, 3), (8, "zero"), (9, bytes(1)))  # int8
    outline = message(
        *((1, content) for content in nodes),
        (2, "layer"),
        *((5, tensor(name, array)) for name, array in tensors.items()),
        (5, zero),
        (11, value(INPUT, INT64, "batch", "sequence")),
        (12, value(OUTPUT, FLOAT, "batch", WIDTH)),
    )
    return message((8, message((1, ""), (2, 23))), (1, 11), (7, outline))


def _finished(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken("[CLS]", special=True), "[SEP]"])
    tokenizer.add_tokens([AddedToken("hello", lstrip=True, rstrip=True, normalized=True)])
    first, last = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", first), ("[SEP]", last)],
    )
    return tokenizer


def wordpiece() -> Tokenizer:
    """Return a WordPiece tokenizer as in BERT."""
    letters = "abcdehlorw.!123"
    vocabulary = ["[UNK]", "hello", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(
        models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return _finished(tokenizer)


def bpe() -> Tokenizer:
    """Return a byte-level BPE tokenizer as in RoBERTa, with an additional split pattern."""
    vocabulary = {
        token: i for i, token in enumerate(["<u>", *"abcdehlorw.!123Ġ", "he", "ll", "hell"])
    }
    merges = [("h", "e"), ("l", "l"), ("he", "ll")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<u>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace("ö", "o"), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Split(r"\s+|\w+", "isolated"), pre.Digits(), pre.ByteLevel(add_prefix_space=False)]
    )
    return _finished(tokenizer)


def unigram() -> Tokenizer:
    """Return a Unigram tokenizer as in XLM-R, with a precompiled character map."""
    pieces = [("<unk>", 0.0), ("▁", -1.0), *((letter, -3.0) for letter in "abcdehlorw.!123")]
    tokenizer = Tokenizer(models.Unigram([*pieces, ("▁w", -2.0)], 0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(EMPTY_MAP), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre.Metaspace()
    return _finished(tokenizer)


TOKENIZERS: list[Callable[[], Tokenizer]] = [wordpiece, bpe, unigram]


def seed_corpus() -> list[tuple[Files, Manifest]]:
    """Return the bundles: files without the manifest, and the manifest without file entries."""
    table = np.eye(10, dtype=np.float32)
    probes = [{"text": "w1 w2", "embedding": (table[1] + table[2]).tolist()}]
    found = [
        (_files(tiny_graph(table), tiny_tokenizer(), probes), tiny_manifest(prompts={"q": "w1 "}))
    ]
    graph = layer_graph()
    for make in TOKENIZERS:
        probes = [{"text": text, "embedding": [0.25] * WIDTH} for text in TEXTS]
        manifest = tiny_manifest(dimension=WIDTH, max_tokens=16, agreement=LAX)
        found.append((_files(graph, make(), probes), manifest))
    return found


def _files(graph: bytes, tokenizer: Tokenizer, probes: list[dict[str, Any]]) -> Files:
    weights = io.BytesIO()
    return {
        "model.onnx": move_weights(graph, weights),
        "weights.bin": weights.getvalue(),
        "tokenizer.json": tokenizer.to_str().encode(),
        "probes.json": json.dumps(probes).encode(),
        "README.md": b"# a seed\n",
    }
