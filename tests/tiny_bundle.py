"""Builds bundles of a few hundred bytes without the onnx package.

The vocabulary is ``w0`` to ``w9``. Component i of an embedding is the number of occurrences of word
i. There are no special tokens, so an empty text has no tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from embedrt.bundle.manifest import (
    FORMAT_VERSION,
    INPUTS,
    OUTPUTS,
    TOKEN_IDS,
    TOKEN_TYPES,
    Agreement,
    Manifest,
    Reranking,
    ScoreActivation,
    Source,
)
from embedrt.bundle.writer import staged_bundle

WORDS = 10

Field = tuple[int, "int | bytes | str"]
FLOAT, INT64 = 1, 7


def varint(number: int) -> bytes:
    """Encode a number as a protobuf varint."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def message(*fields: Field) -> bytes:
    """Encode a protobuf message with varint and length-delimited fields."""
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += varint(number << 3) + varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            encoded += varint(number << 3 | 2) + varint(len(content)) + content
    return encoded


def tensor(name: str, array: NDArray[Any], *extra: Field) -> bytes:
    """Encode a TensorProto with inline data."""
    return described(name, array, (9, array.tobytes()), *extra)


def outside(name: str, array: NDArray[Any], at: int, **changes: str) -> bytes:
    """Encode a TensorProto with data in ``weights.bin``; `changes` override its location."""
    place = {"location": "weights.bin", "offset": str(at), "length": str(array.nbytes)}
    entries: list[Field] = [
        (13, message((1, key), (2, text))) for key, text in {**place, **changes}.items()
    ]
    return described(name, array, *entries, (14, 1))


def described(name: str, array: NDArray[Any], *extra: Field) -> bytes:
    """Encode a TensorProto without data."""
    kind = FLOAT if array.dtype == np.float32 else INT64
    return message(*((1, size) for size in array.shape), (2, kind), (8, name), *extra)


def node(operator: str, inputs: list[str], output: str, *extra: Field) -> bytes:
    """Encode a NodeProto."""
    return message(*((1, name) for name in inputs), (2, output), (4, operator), *extra)


def value(name: str, kind: int, *dimensions: str | int) -> bytes:
    """Encode a ValueInfoProto of a tensor."""
    shape = message(
        *((1, message((1 if isinstance(size, int) else 2, size))) for size in dimensions)
    )
    return message((1, name), (2, message((1, message((1, kind), (2, shape))))))


def model(
    *graph: Field,
    extra: tuple[Field, ...] = (),
    dimension: int | str = WORDS,
    inputs: tuple[str, ...] = ("input_ids",),
    output: str = "embedding",
) -> bytes:
    """Encode a ModelProto of opset 17 with the inputs and outputs of the bundle format."""
    outline = message(
        *graph,
        (2, "tiny"),
        *((11, value(name, INT64, "batch", "sequence")) for name in inputs),
        (12, value(output, FLOAT, "batch", dimension)),
    )
    return message((8, message((1, ""), (2, 17))), (1, 8), (7, outline), *extra)


def tiny_graph(table: NDArray[np.float32]) -> bytes:
    """Encode a graph that sums the rows of `table` by token id. Table: (words, dimension)."""
    return model(
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("ReduceSum", ["rows", "axes"], "embedding", (5, keepdims(0)))),
        (5, tensor("table", table)),
        (5, tensor("axes", np.array([1]))),
        dimension=table.shape[1],
    )


def keepdims(number: int) -> bytes:
    """Encode the attribute ``keepdims``."""
    return message((1, "keepdims"), (3, number), (20, 2))


def tiny_tokenizer() -> Tokenizer:
    """Return a tokenizer that splits at whitespace and maps unknown words to ``w0``."""
    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def tiny_manifest(**changes: Any) -> Manifest:
    """Return a complete manifest with the fields in `changes` replaced."""
    facts: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "name": "tiny",
        "task": "embedding",
        "inputs": INPUTS["embedding"],
        "outputs": OUTPUTS["embedding"],
        "source": Source(
            id="someone/tiny", origin="folder", revision=None, license="mit", weights={"w": "00"}
        ),
        "family": "bert",
        "builder": "fused",
        "precision": "fp32",
        "dimension": WORDS,
        "max_tokens": 8,
        "truncation_side": "right",
        "pooling": ("mean", "max"),
        "normalized": False,
        "similarity": "dot",
        "prompts": {},
        "default_prompt_name": None,
        "tools": {"embedrt": "0"},
        "agreement": Agreement(
            reference="by hand",
            texts=1,
            max_difference=1e-8,
            tolerance=1e-6,
            min_cosine=1.0,
            same_bytes=True,
        ),
        "quantization": None,
        "files": {},
    }
    return Manifest(**{**facts, **changes})


def make_tiny(
    folder: Path,
    *,
    table: NDArray[np.float32] | None = None,
    graph: bytes | None = None,
    probes: str | None = None,
    tokenizer: Tokenizer | None = None,
    **changes: Any,
) -> Path:
    """Write a tiny bundle; arguments replace its parts and manifest fields."""
    table = np.eye(WORDS, dtype=np.float32) if table is None else table
    expected = [{"text": "w1 w2", "embedding": (table[1] + table[2]).tolist()}]
    with staged_bundle(folder) as staging:
        staging.add_graph(tiny_graph(table) if graph is None else graph)
        staging.add("tokenizer.json", (tokenizer or tiny_tokenizer()).to_str().encode())
        staging.add("probes.json", (json.dumps(expected) if probes is None else probes).encode())
        staging.add("README.md", b"# tiny\n")
        staging.seal(tiny_manifest(**{"dimension": table.shape[1], **changes}))
        staging.publish()
    return folder


def tiny_scores(table: NDArray[np.float32]) -> bytes:
    """Encode a graph that sums the rows of `table` by the token ids of a pair's second text."""
    to_float: Field = (5, message((1, "to"), (3, FLOAT), (20, 2)))
    return model(
        (1, node("Gather", ["table", "input_ids"], "rows")),
        (1, node("Cast", ["token_type_ids"], "second", to_float)),
        (1, node("Unsqueeze", ["second", "last"], "weights")),
        (1, node("Mul", ["rows", "weights"], "weighted")),
        (1, node("ReduceSum", ["weighted", "axes"], "scores", (5, keepdims(0)))),
        (5, tensor("table", table)),
        (5, tensor("axes", np.array([1]))),
        (5, tensor("last", np.array([2]))),
        dimension=table.shape[1],
        inputs=(TOKEN_IDS.name, TOKEN_TYPES.name),
        output="scores",
    )


def pair_tokenizer(*, special: bool = False) -> Tokenizer:
    """Return the tiny tokenizer for pairs, with three special tokens if wanted."""
    tokenizer = tiny_tokenizer()
    single, pair = ("w0 $A w0", "w0 $A w0 $B:1 w0:1") if special else ("$A", "$A $B:1")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("w0", 0)]
    )
    return tokenizer


def make_tiny_reranker(
    folder: Path, *, labels: int = 1, activation: ScoreActivation = "Identity", **changes: Any
) -> Path:
    """Write a tiny reranker: score l of a pair is (l + 1) * the sum of its document's numbers."""
    table = np.outer(np.arange(WORDS), np.arange(1, labels + 1)).astype(np.float32)
    pair = {"pair": ["w5", "w1 w2"], "scores": (table[1] + table[2]).tolist()}
    fields: dict[str, Any] = {
        "task": "reranking",
        "inputs": (TOKEN_IDS, TOKEN_TYPES),
        "outputs": OUTPUTS["reranking"],
        "pooling": ("cls",),
        "dimension": labels,
        "reranking": Reranking(
            activation=activation, labels=tuple(f"LABEL_{index}" for index in range(labels))
        ),
    }
    parts = {
        "graph": tiny_scores(table),
        "probes": json.dumps([pair]),
        "tokenizer": pair_tokenizer(),
    }
    return make_tiny(folder, **{**parts, **fields, **changes})
