"""Tests of the modules after the encoder: pooling, Dense, LayerNorm, Normalize."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize
from torch import nn

from comparison import Pair, assert_agrees, export_small
from embedrt import Embedder
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from embedrt_export.graph.nodes import Nodes
from embedrt_export.head import fit_head, is_normalized
from embedrt_export.heads.head import add_head
from embedrt_export.source.settings import read_settings
from model_folders import HIDDEN, change_json, make_small

TEXTS = [
    "",
    "a",
    "the lazy dog",
    "dog lazy the",
    "How many people live in London?",
    "敏捷的棕色狐狸 😀",
    "the quick brown fox jumps over the lazy dog, again and again " * 10,
]
POOLINGS = ["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
CONCATENATIONS = [
    ("cls", "mean"),
    ("mean", "cls"),
    ("lasttoken", "max", "weightedmean"),
    tuple(POOLINGS),
]
ACTIVATIONS = [nn.Identity(), nn.Tanh(), nn.ReLU(), nn.Sigmoid(), nn.GELU()]
AS_IT_IS = ("mean", tuple(POOLINGS))  # the others without Normalize are slow


@pytest.mark.parametrize(
    ("pooling", "normalized"),
    [
        *((pooling, True) for pooling in (*POOLINGS, *CONCATENATIONS)),
        *(
            pytest.param(pooling, False, marks=[] if pooling in AS_IT_IS else pytest.mark.slow)
            for pooling in (*POOLINGS, *CONCATENATIONS)
        ),
    ],
)
def test_pooling(tmp_path: Path, pooling: str | tuple[str, ...], *, normalized: bool) -> None:
    tail = [Normalize()] if normalized else []
    pair = export_small(tmp_path, "distilbert", pooling=pooling, tail=tail)
    with Embedder.load(pair.bundle) as embedder:
        parts = (pooling,) if isinstance(pooling, str) else pooling
        assert embedder.manifest.pooling == tuple(part.removesuffix("_tokens") for part in parts)
        assert embedder.dimension == HIDDEN * len(parts)
        assert embedder.manifest.normalized is normalized
        lengths = np.linalg.norm(embedder.encode(TEXTS), axis=1)
    assert np.allclose(lengths, 1) is normalized
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize(
    ("activation", "bias"),
    [
        *((activation, True) for activation in ACTIVATIONS),
        (ACTIVATIONS[0], False),
        *(
            pytest.param(activation, False, marks=pytest.mark.slow)
            for activation in ACTIVATIONS[1:]
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else type(value).__name__,
)
def test_dense(tmp_path: Path, activation: nn.Module, *, bias: bool) -> None:
    tail = [Dense(HIDDEN, 24, bias=bias, activation_function=activation)]
    pair = export_small(tmp_path, "bert", tail=tail)
    assert_agrees(pair, TEXTS)


@pytest.mark.parametrize(
    ("tail", "dimension"),
    [
        ([LayerNorm(HIDDEN)], HIDDEN),
        ([Dropout(0.5), Normalize()], HIDDEN),
        ([Normalize(), Dense(HIDDEN, 16)], 16),
        ([Dense(HIDDEN, 48), LayerNorm(48), Dropout(0.1), Dense(48, 8), Normalize()], 8),
    ],
    ids=["LayerNorm", "Dropout", "Normalize-Dense", "many"],
)
def test_several_modules(tmp_path: Path, tail: Sequence[nn.Module], dimension: int) -> None:
    pair = export_small(tmp_path, "mpnet", tail=tail)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.dimension == dimension
        assert embedder.manifest.normalized is isinstance(tail[-1], Normalize)
    assert_agrees(pair, TEXTS)


def test_normalize_before_dropout_is_the_end(tmp_path: Path) -> None:
    pair = export_small(tmp_path, "bert", tail=[Normalize(), Dropout(0.1)])
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.manifest.normalized


def test_same_bytes_after_dense(tmp_path: Path) -> None:
    tail = [Dense(HIDDEN, 24), LayerNorm(24), Dense(24, 12), Normalize()]
    pair = export_small(
        tmp_path, "bert", pooling=("weightedmean", "mean"), tail=[Dense(2 * HIDDEN, HIDDEN), *tail]
    )
    texts = [
        f"{word} {other}" for word in "the lazy dog again".split() for other in "a bcd 7".split()
    ]
    with Embedder.load(pair.bundle, threads=2) as embedder:
        alone = [embedder.encode(text).tobytes() for text in texts]
        for batch_size in (None, 1, 5, 7):
            batch = embedder.encode(texts * 3, batch_size=batch_size)
            assert [vector.tobytes() for vector in batch] == alone * 3


@pytest.mark.parametrize("activation", [nn.Softmax(dim=-1), nn.LeakyReLU()])
def test_unknown_activation(tmp_path: Path, activation: nn.Module) -> None:
    tail = [Dense(HIDDEN, 24, activation_function=activation)]
    folder = make_small(tmp_path / "bert", "bert", tail=tail)
    with pytest.raises(UnsupportedModelError, match=type(activation).__name__):
        export_model(str(folder), output=tmp_path / "bundle")


def test_drawing_opens_no_file(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 24), LayerNorm(24)])
    head = read_settings(folder).head
    shutil.rmtree(folder)
    nodes = Nodes()
    _, dimension = add_head(nodes, "vectors", HIDDEN, fit_head(head, HIDDEN))
    assert dimension == 24
    assert {"head_1.weight", "head_2.weight"} <= nodes.initializers.keys()


@pytest.mark.parametrize("tail", [[Normalize()], []], ids=["normalized", "as it is"])
@pytest.mark.parametrize("dimension", [16, HIDDEN, 1000])
def test_truncated(tmp_path: Path, tail: Sequence[nn.Module], dimension: int) -> None:
    """Matryoshka: sentence-transformers truncates after the last module without renormalizing."""
    pair = export_small(tmp_path, "bert", tail=tail, truncate_dim=dimension)
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.dimension == min(dimension, HIDDEN)
        assert embedder.manifest.normalized is (bool(tail) and dimension >= HIDDEN)
    assert_agrees(pair, TEXTS)


def test_a_module_that_writes_beside_the_embedding(tmp_path: Path) -> None:
    """Its output matters if a later module reads it, and is ignored otherwise."""
    aside = Dense(HIDDEN, 24, module_output_name="aside")
    back = Dense(24, 12, module_input_name="aside", module_output_name="sentence_embedding")
    unread = Dense(12, 5, module_output_name="unread")
    pair = export_small(tmp_path, "bert", tail=[aside, Normalize(), back, unread])
    with Embedder.load(pair.bundle) as embedder:
        assert embedder.dimension == 12
    names = [getattr(module, "name", "Pooling") for module in read_settings(pair.folder).head]
    assert names == ["Pooling", "2_Dense", "4_Dense"]
    assert_agrees(pair, TEXTS)


def test_a_module_that_reads_what_none_writes(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 8)])
    change_json(folder / "2_Dense" / "config.json", module_input_name="nothing")
    change_json(folder / "2_Dense" / "config.json", module_output_name="sentence_embedding")
    with pytest.raises(UnsupportedModelError, match="reads nothing, which no earlier module"):
        fit_head(read_settings(folder).head, HIDDEN)


@pytest.mark.parametrize("outputs", [HIDDEN, 24])
def test_residual(tmp_path: Path, outputs: int) -> None:
    """sentence-transformers 6 adds the input to the output, projected if their widths differ."""
    if "use_residual" not in Dense.config_keys:
        folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, outputs)])
        change_json(folder / "2_Dense" / "config.json", use_residual=True)
        with pytest.raises(UnsupportedModelError, match=r"use_residual|lack residual\.weight"):
            export_model(str(folder), output=tmp_path / "bundle")
        return
    newer: Any = Dense
    tail = [newer(HIDDEN, outputs, use_residual=True)]
    assert_agrees(export_small(tmp_path, "bert", tail=tail), TEXTS)


@pytest.mark.parametrize("key", ["in_features", "out_features"])
def test_config_of_other_weights(tmp_path: Path, key: str) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 8)])
    change_json(folder / "2_Dense" / "config.json", **{key: 99})
    with pytest.raises(UnsupportedModelError, match=f"sets {key} to 99, but the weights beside"):
        read_settings(folder)


def test_widths_that_do_not_fit(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 8), LayerNorm(8)])
    head = read_settings(folder).head
    assert not is_normalized(head)
    with pytest.raises(UnsupportedModelError, match="2_Dense takes 32 components and gets 99"):
        fit_head(head, 99)
    with pytest.raises(UnsupportedModelError, match="3_LayerNorm takes 8 components and gets 32"):
        fit_head((head[0], head[2]), HIDDEN)


def test_modules_in_other_folders_and_half_precision(tmp_path: Path) -> None:
    folder = make_small(tmp_path / "model", "bert", tail=[Dense(HIDDEN, 8).half()])
    (folder / "2_Dense").rename(folder / "2_Dense_8")
    text = (folder / "modules.json").read_text(encoding="utf-8")
    (folder / "modules.json").write_text(text.replace("2_Dense", "2_Dense_8"), encoding="utf-8")
    assert_agrees(Pair(folder, export_model(str(folder), output=tmp_path / "bundle")), TEXTS)
