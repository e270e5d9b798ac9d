"""Tests that no bundle is written unless it agrees with its original."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from comparison import Pair
from embedrt import Bundle, Embedder
from embedrt.bundle.manifest import Agreement
from embedrt.errors import EmbedrtError, ProofError
from embedrt_export import export_model, prove_bundle
from embedrt_export.encoder import Encoder
from embedrt_export.graph import fuse
from embedrt_export.graph.arithmetic import Arithmetic
from embedrt_export.graph.nodes import Nodes
from embedrt_export.proof.agreement import prove, require_agreement
from embedrt_export.proof.calls import prompted_calls
from embedrt_export.proof.comparison import compare
from embedrt_export.proof.oracle import Oracle
from embedrt_export.proof.texts import PROMPTED, proof_texts
from model_folders import METADATA, make_small

GOOD = Agreement(
    reference="the original",
    texts=44,
    max_difference=2e-7,
    tolerance=2e-6,
    min_cosine=0.9999999,
    same_bytes=True,
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_difference": 2.1e-6}, "differs by 2.10e-06"),
        ({"max_difference": math.nan}, "differs by nan"),
        ({"min_cosine": 0.9999}, "a cosine is 0.9999000"),
        ({"min_cosine": math.nan}, "a cosine is nan"),
        ({"same_bytes": False}, "different bytes in a batch than alone"),
    ],
)
def test_each_reason(changes: dict[str, Any], reason: str) -> None:
    agreement = dataclasses.replace(GOOD, **changes)
    with pytest.raises(ProofError, match=reason) as caught:
        require_agreement(agreement)
    assert "on 44 texts" in str(caught.value)
    others = {"component", "cosine", "bytes"} - set(reason.split())
    assert sum(other in str(caught.value) for other in others) <= 2


def test_every_reason_at_once() -> None:
    agreement = dataclasses.replace(GOOD, max_difference=1.0, min_cosine=0.0, same_bytes=False)
    with pytest.raises(ProofError) as caught:
        require_agreement(agreement)
    assert str(caught.value).count(";") >= 3


def test_agreement_passes() -> None:
    require_agreement(GOOD)
    require_agreement(dataclasses.replace(GOOD, max_difference=2e-6, min_cosine=0.999999))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert"])
def test_lengths_of_the_texts(exported: Callable[[str], Pair], family: str) -> None:
    """Lengths range from special tokens only to beyond the maximum, and include its neighbors."""
    with Embedder.load(exported(family).bundle) as embedder:
        texts = proof_texts(["<pad>"], embedder.max_tokens, embedder.count_tokens)
        lengths = {embedder.count_tokens(text) for text in texts}
        maximum = embedder.max_tokens
    assert {2, 3} <= lengths
    assert max(lengths) >= 2 * maximum
    assert {maximum - 1, maximum, maximum + 1} <= lengths


def test_texts_include_special_tokens_scripts_and_the_empty_text() -> None:
    texts = proof_texts(["<pad>", "[MASK]"], 64, len)
    assert "" in texts
    assert any("<pad>" in text and not text.startswith("<pad>") for text in texts)
    assert any("[MASK]" in text for text in texts)
    for first, last in (
        ("ж", "я"),
        ("一", "龥"),
        ("ぁ", "ん"),
        ("😀", "😿"),
        ("ب", "ي"),
        ("가", "힣"),
    ):
        assert any(first <= letter <= last for text in texts for letter in text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_small(tmp_path / "model", "bert")


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[Encoder], Encoder]) -> None:
    """Build the graph from weights other than the checkpoint's."""

    def add_spoiled(nodes: Nodes, encoder: Encoder, arithmetic: Arithmetic) -> str:
        return fuse.add_encoder(nodes, change(encoder), arithmetic)

    monkeypatch.setattr("embedrt_export.assemble.add_encoder", add_spoiled)


def nudge_one_weight(encoder: Encoder) -> Encoder:
    word_embeddings = encoder.word_embeddings.copy()
    word_embeddings[101, 0] += 1e-3  # [CLS], which is in every text
    return dataclasses.replace(encoder, word_embeddings=word_embeddings)


def drop_the_last_position(encoder: Encoder) -> Encoder:
    assert encoder.position_embeddings is not None
    positions = encoder.position_embeddings.copy()
    positions[63] = positions[62]
    return dataclasses.replace(encoder, position_embeddings=positions)


def other_activation(encoder: Encoder) -> Encoder:
    return dataclasses.replace(encoder, activation="gelu_tanh")


@pytest.mark.parametrize("change", [nudge_one_weight, drop_the_last_position, other_activation])
def test_disagreement_leaves_nothing(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Encoder], Encoder],
) -> None:
    spoil(monkeypatch, change)
    with pytest.raises(ProofError, match=r"a component differs by \d\.\d\de-0\d; at most 2e-06"):
        export_model(str(folder), output=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [folder]


def test_disagreement_leaves_the_old_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = export_model(str(folder), output=tmp_path / "bundle")
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    spoil(monkeypatch, nudge_one_weight)
    with pytest.raises(ProofError):
        export_model(str(folder), output=bundle)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"model", "bundle"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(folder: Path, tmp_path: Path, value: float) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.layer.0.output.dense.bias"][3] = value
    save_file(tensors, file, METADATA)
    with pytest.raises(EmbedrtError):
        export_model(str(folder), output=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == [folder]


def test_weight_that_is_nan_for_one_rare_word(folder: Path, tmp_path: Path) -> None:
    """No text of the proof contains the word, so the weights themselves are checked."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["embeddings.word_embeddings.weight"][500, 5] = torch.nan  # [unused499]
    save_file(tensors, file, METADATA)
    with pytest.raises(EmbedrtError, match=r"embeddings\.word_embeddings\.weight"):
        export_model(str(folder), output=tmp_path / "bundle")


def test_figures_in_manifest_and_card(exported: Callable[[str], Pair]) -> None:
    pair = exported("bert")
    bundle = Bundle.open(pair.bundle, verify="sha256")
    agreement = bundle.manifest.agreement
    assert agreement is not None
    oracle = Oracle(pair.folder)
    oracle.limit(64)
    with Embedder(bundle) as embedder:
        texts = proof_texts(oracle.special_tokens(), 64, embedder.count_tokens)
        assert prove(embedder, oracle) == agreement
    assert 0 < agreement.max_difference <= agreement.tolerance == 2e-6
    assert 0.999999 <= agreement.min_cosine <= 1.000001
    assert agreement.same_bytes
    # Two prompts of the proof, three methods, the two names that sentence-transformers always has.
    assert agreement.texts == len(texts) + 7 * len(PROMPTED) + 1
    assert len(texts) > 40
    card = (pair.bundle / "README.md").read_text(encoding="utf-8")
    for fact in (f"{agreement.max_difference:.1e}", "bert", "cosine", "64 tokens", "mean", "fp32"):
        assert fact in card


def test_probes_are_the_original_vectors(exported: Callable[[str], Pair]) -> None:
    pair = exported("mpnet")
    probes = json.loads((pair.bundle / "probes.json").read_text(encoding="utf-8"))
    vectors = Oracle(pair.folder).embed([probe["text"] for probe in probes])
    found = np.array([probe["embedding"] for probe in probes], np.float32)
    assert found.tobytes() == vectors.tobytes()
    assert len(probes) >= 3


def test_prove_again(exported: Callable[[str], Pair]) -> None:
    pair = exported("roberta")
    with Embedder.load(pair.bundle) as embedder:
        agreement = prove_bundle(embedder, str(pair.folder))
        assert agreement == embedder.manifest.agreement


def test_prove_against_another_model(exported: Callable[[str], Pair], folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.layer.1.output.dense.bias"][0] += 0.01
    save_file(tensors, file, METADATA)
    with Embedder.load(exported("bert").bundle) as embedder, pytest.raises(ProofError):
        prove_bundle(embedder, str(folder))


def test_prove_against_another_dimension(exported: Callable[[str], Pair], tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert", pooling=("mean", "cls"))
    with (
        Embedder.load(exported("bert").bundle) as embedder,
        pytest.raises(ProofError, match=r"32 components.*64"),
    ):
        prove_bundle(embedder, str(folder))


def test_calls_of_the_proof() -> None:
    """The calls include what users call, and prompts that are unusual for tokenizers."""
    calls = prompted_calls(["query", "none"], ["<pad>", "<mask>"])
    assert [str(call) for call in calls] == [
        "encode_document(prompt='query: ')",
        "encode_query(prompt='query: <mask>')",
        "encode()",
        "encode_query()",
        "encode_document()",
        "encode(prompt_name='query')",
        "encode(prompt_name='none')",
    ]


def test_a_prompt_pushes_a_text_beyond_the_maximum(exported: Callable[[str], Pair]) -> None:
    pair = exported("roberta")
    oracle = Oracle(pair.folder)
    oracle.limit(64)
    with Embedder.load(pair.bundle) as embedder:
        compared = compare(embedder, oracle)
        full = [
            one.call.method
            for one in compared
            if one.call.prompt
            and embedder.count_tokens(one.text) == 64
            and not np.array_equal(
                oracle.input_ids(one.text, one.call)[-9:], oracle.token_ids(one.text)[-9:]
            )
        ]
    assert full == ["encode_document"]
