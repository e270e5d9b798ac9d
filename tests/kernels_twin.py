"""What the kernels compute, written plainly in numpy, and encoders with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from embedrt.kernels.encoder import Encoder, Layer, Linear, Norm

FloatArray = NDArray[np.float32]
Exact = NDArray[np.float64]


def embed(encoder: Encoder, texts: Iterable[NDArray[np.int64]]) -> Exact:
    """Embed texts, each alone; return (texts, hidden)."""
    return np.stack([_embed_text(encoder, text) for text in texts])


def gelu(values: Exact) -> Exact:
    """Return x * Phi(x)."""
    result: Exact = values * 0.5 * (1 + erf(values / np.sqrt(2)))
    return result


def _embed_text(encoder: Encoder, ids: NDArray[np.int64]) -> Exact:
    positions = np.arange(len(ids))
    if encoder.padding_id is not None:
        counted = ids != encoder.padding_id
        positions = np.cumsum(counted) * counted
    states = encoder.words[ids] * encoder.word_scales[ids].astype(np.float64)
    states = _norm(encoder.embedding_norm, states + encoder.position_rows[positions])
    for layer in encoder.layers:
        attended = _product(layer.attention_output, _attention(encoder, layer, states))
        between = _norm(layer.attention_norm, states + attended)
        fed = _product(layer.down, gelu(_product(layer.up, between)))
        states = _norm(layer.output_norm, between + fed)
    pooled = states.mean(axis=0) if encoder.mean else states[0]
    result: Exact = pooled / np.linalg.norm(pooled) if encoder.normalized else pooled
    return result


def _attention(encoder: Encoder, layer: Layer, states: Exact) -> Exact:
    parts = np.split(_product(layer.query_key_value, states), 3, axis=1)
    size = encoder.hidden // encoder.heads
    query, key, value = (part.reshape(len(states), -1, size).swapaxes(0, 1) for part in parts)
    scores = query @ key.swapaxes(1, 2) * encoder.attention_scale
    if encoder.relative_bias is not None:
        furthest = encoder.relative_bias.shape[1] // 2
        place = np.arange(len(states))
        distance = np.clip(place[None] - place[:, None], -furthest, furthest)
        scores += encoder.relative_bias[:, distance + furthest]
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    joined: Exact = (weights @ value).swapaxes(0, 1).reshape(len(states), -1)
    return joined


def _product(linear: Linear, values: Exact) -> Exact:
    smooth = values if linear.smoothing is None else values * linear.smoothing
    steps = np.clip(np.rint(smooth / np.float64(np.float32(linear.scale))) + linear.zero, 0, 255)
    exact = (steps - linear.zero) @ linear.weight.astype(np.float64)
    result = exact * linear.scale * linear.weight_scale
    if linear.bias is not None:
        result = result + linear.bias
    if linear.outliers is not None and linear.outlier_rows is not None:
        result = result + values[:, linear.outliers] @ linear.outlier_rows
    kept: Exact = result
    return kept


def _norm(norm: Norm, values: Exact) -> Exact:
    away = values - values.mean(axis=1, keepdims=True)
    variance = np.square(away).mean(axis=1, keepdims=True)
    result: Exact = away / np.sqrt(variance + norm.epsilon) * norm.weight + norm.bias
    return result


def random_encoder(
    seed: int,
    *,
    heads: int = 2,
    size: int = 32,
    inner: int = 96,
    layers: int = 1,
    positions: int = 80,
    outliers: int = 0,
    padding_id: int | None = None,
    distances: int = 0,
    mean: bool = True,
    normalized: bool = True,
) -> Encoder:
    """Return an encoder of 50 words whose parts all have an effect."""
    random = np.random.default_rng(seed)
    hidden = heads * size

    def floats(*shape: int, around: float = 0, spread: float = 1) -> FloatArray:
        return (around + spread * random.standard_normal(shape)).astype(np.float32)

    def linear(inputs: int, outputs: int, *, largest: float, zero: int, loud: float = 1) -> Linear:
        weight = random.integers(-127, 128, (inputs, outputs), np.int8)
        count = min(outliers, inputs)
        channels = random.permutation(inputs)[:count].astype(np.int64)
        weight[channels] = 0
        smooth = random.random() < 0.5
        return Linear(
            scale=float(np.float32(largest / 127)),
            zero=zero,
            smoothing=np.exp(floats(inputs, spread=0.2)) if smooth else None,
            weight=weight,
            weight_scale=(loud * np.exp(floats(outputs, spread=0.2)) / 73 / inputs**0.5),
            bias=floats(outputs, spread=0.3) if random.random() < 0.7 else None,
            outliers=channels if count else None,
            outlier_rows=floats(count, outputs, spread=inputs**-0.5) if count else None,
        )

    def norm() -> Norm:
        scale, offset = floats(hidden, around=1, spread=0.1), floats(hidden, spread=0.1)
        return Norm(weight=scale, bias=offset, epsilon=1e-12)

    def layer() -> Layer:
        return Layer(
            query_key_value=linear(hidden, 3 * hidden, largest=4, zero=120),
            attention_output=linear(hidden, hidden, largest=3, zero=131),
            attention_norm=norm(),
            up=linear(hidden, inner, largest=4, zero=127),
            down=linear(inner, hidden, largest=2, zero=9),
            output_norm=norm(),
        )

    return Encoder(
        heads=heads,
        attention_scale=float(np.float32(size**-0.5)),
        padding_id=padding_id,
        words=random.integers(-127, 128, (50, hidden), np.int8),
        word_scales=np.exp(floats(50, 1, spread=0.3)) / 73,
        position_rows=floats(positions, hidden, spread=0.5),
        relative_bias=floats(heads, distances) if distances else None,
        embedding_norm=norm(),
        layers=tuple(layer() for _ in range(layers)),
        mean=mean,
        normalized=normalized,
    )


def without(encoder: Encoder, part: str) -> Encoder:
    """Return an encoder whose products `part` give zeros."""

    def silent(layer: Layer) -> Layer:
        linear: Linear = getattr(layer, part)
        changes: Any = {
            part: replace(
                linear, weight=np.zeros_like(linear.weight), bias=None, outliers=None,
                outlier_rows=None,
            )
        }  # fmt: skip
        return replace(layer, **changes)

    return replace(encoder, layers=tuple(map(silent, encoder.layers)))
