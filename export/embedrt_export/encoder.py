"""The weights of a transformer encoder, in one form for all families.

The blocks are post-norm, as in BERT (Devlin et al. 2018, arXiv:1810.04805): attention, residual,
LayerNorm, two linear layers with an activation between them, residual, LayerNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Activation = Literal["gelu", "gelu_tanh", "relu"]

# Keys are the names in model configs.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


# Tokens. In models for longer texts, attention must not hold the scores of all pairs of tokens.
LONG = 512

Item = TypeVar("Item")


class Lazy(Sequence[Item], Generic[Item]):
    """Items that are read whenever they are used, so that only one of them is in memory."""

    def __init__(self, count: int, read: Callable[[int], Item]) -> None:
        self._indices = range(count)
        self._read = read

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self._read(each) for each in self._indices[index]]
        return self._read(self._indices[index])


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x @ weight + bias."""

    weight: FloatArray
    """Shape: (inputs, outputs)."""
    bias: FloatArray
    """Shape: (outputs,)."""


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm over the last axis."""

    weight: FloatArray
    bias: FloatArray
    epsilon: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One transformer block."""

    query: Linear
    key: Linear
    value: Linear
    attention_output: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTypes:
    """The token types that a tokenizer assigns, by position."""

    first: tuple[int, ...] = ()
    """Types of the first tokens."""
    rest: int = 0
    """Type of all other tokens."""

    def of(self, tokens: int) -> NDArray[np.int64]:
        """Return the types in a text of `tokens` tokens. Shape: (tokens,)."""
        return np.array((*self.first, *[self.rest] * tokens)[:tokens], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The weights and constants that define an encoder's graph."""

    word_embeddings: FloatArray
    """Shape: (vocabulary, hidden)."""
    position_embeddings: FloatArray
    """Embedding of position p in row p. With a `padding_id`, row 0 belongs to the padding token and
    position p is row p + 1. Shape: (positions, hidden)."""
    token_types: FloatArray | None
    """Token type embeddings; None in families without token types. Shape: (types, hidden)."""
    types: TokenTypes = TokenTypes()
    max_tokens: int | None = None
    """Number of tokens that texts are truncated to; None if only the positions limit it."""
    padding_id: int | None
    """The padding token, in families that count positions without padding tokens."""
    embedding_norm: Norm
    layers: Sequence[Layer]
    heads: int
    activation: Activation
    relative_bias: FloatArray | None
    """Bias on attention scores, by head and by key position - query position + positions - 1.
    Shape: (heads, 2 * positions - 1)."""

    @property
    def hidden(self) -> int:
        """Number of components in a token vector."""
        return int(self.word_embeddings.shape[1])

    @property
    def position_rows(self) -> FloatArray:
        """Sum of the position and token type embeddings, in the rows of `position_embeddings`."""
        table = self.position_embeddings
        if self.token_types is None:
            return table
        types = self.types.of(self.positions)
        if self.padding_id is not None:
            types = np.concatenate([[self.types.rest], types])
        return table + self.token_types[types]

    @property
    def is_long(self) -> bool:
        """Whether texts have more than `LONG` tokens."""
        return min(self.positions, self.max_tokens or self.positions) > LONG

    @property
    def positions(self) -> int:
        """Number of positions in the position table."""
        return len(self.position_embeddings) - (self.padding_id is not None)
