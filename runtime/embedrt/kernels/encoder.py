"""An encoder as the kernels need it: sizes, scales and weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A product in int8; its input is multiplied by `smoothing`, divided by `scale`, and rounded.

    The channels in `outliers`, whose rows of `weight` are zero, are multiplied in fp32.
    """

    scale: float
    zero: int
    """Offset of the quantized input, which makes it a byte."""
    smoothing: Array | None
    """float32, (inputs,)."""
    weight: Array
    """int8, (inputs, outputs)."""
    weight_scale: Array
    """float32, (outputs,)."""
    bias: Array | None
    """float32, (outputs,)."""
    outliers: Array | None
    """int64, (n,)."""
    outlier_rows: Array | None
    """float32, (n, outputs)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """A LayerNorm."""

    weight: Array
    """float32, (hidden,)."""
    bias: Array
    """float32, (hidden,)."""
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Attention and a feed-forward network with GELU, with a norm after each sum."""

    query_key_value: Linear
    attention_output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder whose token vectors are pooled to an embedding."""

    heads: int
    attention_scale: float
    padding_id: int | None
    """If given, positions count the other tokens, and padding has position 0."""
    words: Array
    """int8, (vocabulary, hidden)."""
    word_scales: Array
    """float32, (vocabulary, 1)."""
    position_rows: Array
    """float32, (positions, hidden)."""
    relative_bias: Array | None
    """float32, (heads, distances): bias on a score, by the distance of its two tokens."""
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    mean: bool
    """Whether the embedding is the mean of the token vectors; otherwise it is the first."""
    normalized: bool

    @property
    def hidden(self) -> int:
        """Width of the token vectors."""
        return int(self.words.shape[1])
