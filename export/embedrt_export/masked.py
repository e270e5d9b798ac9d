"""A sparse encoder's head as data: the masked-LM head, and the pooling of its logits."""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.bundle.manifest import SparseActivation, SparsePooling
from embedrt_export.encoder import Activation, FloatArray, Linear, Norm


@dataclass(frozen=True, slots=True, kw_only=True)
class SpladePooling:
    """The pooling of each word's logits over the tokens of a text."""

    strategy: SparsePooling = "max"
    activation: SparseActivation = "relu"
    """``relu``: log1p(relu(logit)); ``log1p_relu``: log1p of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedHead:
    """The layers from token vectors to logits: dense, activation, normalization, decoder."""

    dense: Linear
    activation: Activation
    norm: Norm
    decoder: FloatArray
    """Shape: (vocabulary, inputs). Often the word embeddings, which are then stored once."""
    bias: FloatArray
    """Shape: (vocabulary,)."""
    pooling: SpladePooling = SpladePooling()
    query_weights: FloatArray | None = None
    """The weights of queries' tokens, if queries are computed without the graph. Shape:
    (vocabulary,)."""

    @property
    def vocabulary(self) -> int:
        """Number of words, and so of weights of a text."""
        return len(self.decoder)
