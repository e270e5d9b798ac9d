"""The weights of a transformer encoder, in one form for all families.

A block is attention and a feed-forward layer. Each is added to its input, and normalized before,
after or both: see `Norms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import UnsupportedModelError

FloatArray = NDArray[np.float32]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]

# Keys are the names in model configs.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


# Tokens. In models for longer texts, attention must not hold the scores of all pairs of tokens.
LONG = 512

Item = TypeVar("Item")


class Lazy(Sequence[Item], Generic[Item]):
    """Items that are read at each access, so that only one of them is in memory."""

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

    def split(self, parts: int) -> list[Linear]:
        """Return the layers that were packed in this one, each with its share of the outputs.

        Raises UnsupportedModelError if the outputs cannot be shared evenly.
        """
        outputs = self.weight.shape[1]
        if outputs % parts or self.bias.shape != (outputs,):
            raise UnsupportedModelError(
                f"the weights of {parts} layers in one have {outputs} outputs and a bias of "
                f"{len(self.bias)}, and equal multiples of {parts} are expected: the weights and "
                "config.json are not those of one model"
            )
        weights = np.split(self.weight, parts, axis=1)
        biases = np.split(self.bias, parts)
        return [Linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm over the last axis."""

    weight: FloatArray
    bias: FloatArray
    epsilon: float


@dataclass(frozen=True, slots=True)
class RmsNorm:
    """Division by the root mean square over the last axis (Zhang 2019, arXiv:1910.07467)."""

    weight: FloatArray
    epsilon: float


AnyNorm: TypeAlias = Norm | RmsNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class Norms:
    """The normalizations of one part f of a block: after(x + inner(f(before(x)))).

    BERT has `after`, most later encoders `before`, Gemma `before` and `inner`.
    """

    before: AnyNorm | None = None
    inner: AnyNorm | None = None
    after: AnyNorm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of queries and keys.

    Row p holds the cosines and sines of the angles at position p. The components of a head beyond
    the pairs are not rotated.
    """

    cosines: FloatArray
    """Shape: (positions, pairs)."""
    sines: FloatArray
    """Shape: (positions, pairs)."""
    interleaved: bool = False
    """Whether components 2i and 2i + 1 form a pair, instead of i and i + pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One transformer block."""

    query: Linear
    key: Linear
    value: Linear
    query_norm: RmsNorm | None = None
    """Normalization of each head of the queries, before the rotation."""
    key_norm: RmsNorm | None = None
    """Normalization of each head of the keys, before the rotation."""
    attention_output: Linear
    attention_norms: Norms
    rotation: Rotation | None = None
    """Rotary positions; layers with equal ones hold the same object."""
    relative_bias: FloatArray | None = None
    """As that of `Encoder`, where each layer has its own."""
    reach: int | None = None
    """Number of positions on each side, or before it in causal encoders, that a token attends to;
    None for all."""
    gate: Linear | None = None
    """The feed-forward layer is down(activation(gate(x)) * up(x)) with a gate, and
    down(activation(up(x))) without one."""
    up: Linear
    down: Linear
    feed_forward_norms: Norms


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTypes:
    """The token types that a tokenizer assigns, by position, unless they are given."""

    given: bool = False
    """Whether the types are an input of the graph, because a pair's texts differ in theirs."""
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
    """Shape: (vocabulary, embedded)."""
    embedding_scale: float | None = None
    """Factor of the word embeddings; None for 1."""
    position_embeddings: FloatArray | None = None
    """Embedding of position p in row p. With a `padding_id`, row 0 belongs to the padding token and
    position p is row p + 1. None in families with other positions. Shape: (positions, embedded)."""
    token_types: FloatArray | None = None
    """Token type embeddings; None in families without token types. Shape: (types, embedded)."""
    types: TokenTypes = TokenTypes()
    first_only: bool = False
    """Whether only the first token's vector is read, so that the last layer computes no other."""
    max_tokens: int | None = None
    """Number of tokens that texts are truncated to; None if only the positions limit it."""
    padding_id: int | None = None
    """The padding token, in families that count positions without padding tokens."""
    embedding_norm: AnyNorm | None = None
    embedding_projection: Linear | None = None
    """From the width of the embeddings to that of the layers, where the two differ."""
    layers: Sequence[Layer]
    """In a tuple, layers that share their weights are the same object; `Lazy` layers share none."""
    final_norm: AnyNorm | None = None
    """Normalization of the last layer's output."""
    heads: int
    key_heads: int | None = None
    """Heads of the keys and values, each shared by several query heads; None for `heads`."""
    head_size: int | None = None
    """Components of a head; None if the heads share the layers' width evenly."""
    scale: float | None = None
    """Factor of the attention scores; None for 1 / sqrt(head_size)."""
    causal: bool = False
    """Whether a token attends only to itself and to tokens before it."""
    hidden_within: int = 0
    """Number of tokens of a text in which the input ``attention_mask`` hides some from all others;
    0 if there is no such input."""
    activation: Activation
    relative_bias: FloatArray | None = None
    """Bias on the attention scores of all layers, by head and by key position - query position +
    furthest, where longer distances have the bias of the furthest. Shape: (heads, 2 * furthest +
    1)."""

    @property
    def hidden(self) -> int:
        """Number of components in a token vector."""
        if self.embedding_projection is not None:
            return int(self.embedding_projection.weight.shape[1])
        return int(self.word_embeddings.shape[1])

    @property
    def head_width(self) -> int:
        """Number of components of a head."""
        return self.hidden // self.heads if self.head_size is None else self.head_size

    @property
    def attention_width(self) -> int:
        """Number of components of the queries of all heads."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """Number of components of the keys of all heads, and of the values."""
        return self.attention_width * (self.key_heads or self.heads) // self.heads

    @property
    def position_rows(self) -> FloatArray | None:
        """Sum of the position and token type embeddings, in the rows of `position_embeddings`.

        Without the types if they are given. One row if it is the same for all positions, None if
        there are no such embeddings.
        """
        table = self.position_embeddings
        if self.token_types is None or self.types.given:
            return table
        if table is None and not self.types.first:
            return self.token_types[[self.types.rest]]
        assert self.positions is not None
        types = self.types.of(self.positions)
        if self.padding_id is not None:
            types = np.concatenate([[self.types.rest], types])
        given = self.token_types[types]
        return given if table is None else table + given

    @property
    def hides_tokens(self) -> bool:
        """Whether the input ``attention_mask`` hides tokens."""
        return self.hidden_within > 0

    @property
    def is_long(self) -> bool:
        """Whether texts have more than `LONG` tokens."""
        bounds = [bound for bound in (self.positions, self.max_tokens) if bound is not None]
        return min(bounds, default=LONG + 1) > LONG

    @property
    def positions(self) -> int | None:
        """Number of positions in the tables of positions; None if there is no limit."""
        if self.position_embeddings is not None:
            return len(self.position_embeddings) - (self.padding_id is not None)
        rotation = self.layers[0].rotation  # the tables of all layers have as many positions
        return None if rotation is None else len(rotation.cosines)
