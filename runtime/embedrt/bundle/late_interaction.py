"""The record of a manifest on late interaction models."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from embedrt.bundle.decoding import wrong
from embedrt.pair import TextKind

TokenScore = Literal["maxsim", "meanmaxsim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """How a short query is expanded: with tokens whose vectors count like those of the query."""

    length: int
    """Number of tokens that a shorter query is expanded to."""
    token: int
    """Id of the token that is added."""
    attended: bool
    """Whether tokens attend to the added ones. Otherwise the input ``attention_mask`` hides them,
    and they attend to the query's own tokens alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateInteraction:
    """Properties of late interaction models."""

    score: TokenScore
    """How two texts are scored by the vectors of their tokens: ``maxsim`` is the sum over the
    query's tokens of the largest product with a token of the document, ``meanmaxsim`` the mean."""
    query_tokens: int
    """Number of tokens that a query is truncated to, before it is expanded."""
    document_tokens: int
    """Number of tokens that a document is truncated to."""
    expansion: Expansion | None
    """None if queries are not expanded."""
    skipped: tuple[int, ...]
    """Ids of tokens whose vectors are dropped."""
    skipped_in: tuple[TextKind, ...]
    """The texts to which `skipped` applies; other texts count as documents."""

    @property
    def hides_tokens(self) -> bool:
        """Whether no token attends to the tokens that expand a query."""
        return self.expansion is not None and not self.expansion.attended


def check_late(late: LateInteraction, inputs: Sequence[str], longest: int, words: int) -> None:
    """Raise BundleFormatError for a number out of range, or one that does not fit the graph.

    `inputs` are the names of the graph's inputs, `longest` is the most tokens of a text, `words`
    the most of a vocabulary.
    """
    lengths = {"query_tokens": late.query_tokens, "document_tokens": late.document_tokens}
    tokens = {f"skipped[{place}]": token for place, token in enumerate(late.skipped)}
    if late.expansion is not None:
        lengths["expansion.length"] = late.expansion.length
        tokens["expansion.token"] = late.expansion.token
    for numbers, least, most in ((lengths, 1, longest), (tokens, 0, words - 1)):
        for name, number in numbers.items():
            if not least <= number <= most:
                raise wrong(
                    f"manifest.json.late_interaction.{name} is {reprlib.repr(number)}; expected "
                    f"{least} to {most}"
                )
    if late.hides_tokens != ("attention_mask" in inputs):
        raise wrong(
            "manifest.json.inputs must have attention_mask if and only if no token attends to the "
            "tokens of late_interaction.expansion"
        )
