"""What follows the encoder: pooling, Dense, LayerNorm, Normalize."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Normalize
from torch import nn

from comparison import assert_agrees, export_small
from embedrt import Embedder
from embedrt.errors import UnsupportedModelError
from embedrt_export import export_model
from model_folders import HIDDEN, make_small

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


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("pooling", [*POOLINGS, *CONCATENATIONS])
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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda module: type(module).__name__)
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
