"""The interface of an original model for the comparison of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from embedrt.text.tokenizer import TokenIds
from embedrt_export.encoder import FloatArray
from embedrt_export.proof.calls import PLAIN, Call


class Reference(Protocol):
    """An original model. It caches embeddings, so that its weights can be released."""

    @property
    def name(self) -> str:
        """The library and its version."""

    @property
    def prompt_names(self) -> list[str]:
        """The names that the original accepts as ``prompt_name``."""

    def special_tokens(self) -> list[str]:
        """Return the special tokens as text."""

    @property
    def main_calls(self) -> tuple[Call, ...]:
        """The calls in which all texts are compared; in others, only a few are."""

    def takes(self, text: str, call: Call) -> bool:
        """Whether the original runs this text in this call without failing."""

    def edge_texts(self) -> list[str]:
        """Return texts at the limits of this kind of model."""

    def embed(self, texts: Sequence[str], call: Call = PLAIN) -> FloatArray:
        """Embed each text with `call`, by default without a prompt. Shape: (n, dimension)."""

    def release(self) -> None:
        """Drop the weights. Only texts that were embedded before can be embedded from now on."""

    def input_ids(self, text: str, call: Call) -> TokenIds:
        """Return the token ids that the model computes with in this call. Shape: (tokens,)."""

    def token(self, token_id: int) -> str | None:
        """Return the token with this id; None if there is none."""
