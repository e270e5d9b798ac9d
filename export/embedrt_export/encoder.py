"""One description of a transformer encoder's weights, whatever its family.

Post-norm blocks, as BERT introduced them (Devlin et al. 2018, arXiv:1810.04805): attention,
residual, LayerNorm, two linear layers with an activation between, residual, LayerNorm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Activation = Literal["gelu", "gelu_tanh", "relu"]

# By the names that model configs use.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


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
    """The types of a text's tokens by position, as its tokenizer gives them."""

    first: tuple[int, ...] = ()
    """Those of the first tokens."""
    rest: int = 0
    """That of all others."""

    def of(self, tokens: int) -> NDArray[np.int64]:
        """Return the types of a text of so many tokens. Shape: (tokens,)."""
        return np.array((*self.first, *[self.rest] * tokens)[:tokens], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Everything that the graph needs of an encoder."""

    word_embeddings: FloatArray
    """Shape: (vocabulary, hidden)."""
    position_embeddings: FloatArray
    """What position p adds, in row p. With a `padding_id`, row 0 is that token's and position p is
    row p + 1. Shape: (positions, hidden)."""
    token_types: FloatArray | None
    """What a token's type adds, in families that have types. Shape: (types, hidden)."""
    types: TokenTypes = TokenTypes()
    padding_id: int | None
    """A token that takes no position, in families that number positions by counting the others."""
    embedding_norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    activation: Activation
    relative_bias: FloatArray | None
    """What is added to an attention score, by head and by key position - query position + positions
    - 1. Shape: (heads, 2 * positions - 1)."""

    @property
    def hidden(self) -> int:
        """Components of a token's vector."""
        return int(self.word_embeddings.shape[1])

    @property
    def position_rows(self) -> FloatArray:
        """What a position and the type of its token add, by the rows of `position_embeddings`."""
        table = self.position_embeddings
        if self.token_types is None:
            return table
        types = self.types.of(self.positions)
        if self.padding_id is not None:
            types = np.concatenate([[self.types.rest], types])
        return table + self.token_types[types]

    @property
    def positions(self) -> int:
        """Tokens that the position table has room for."""
        return len(self.position_embeddings) - (self.padding_id is not None)
