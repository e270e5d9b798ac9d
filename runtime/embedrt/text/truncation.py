"""Warnings and errors about texts that exceed the model's maximum token count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from embedrt.arguments import check_choice
from embedrt.bundle.manifest import Side
from embedrt.errors import OverlongTextError, warn_caller
from embedrt.pair import Pair, characters
from embedrt.text.inputs import start_of
from embedrt.text.tokenizer import TokenIds, Tokenizer

Overlong = Literal["truncate", "warn", "error"]


def check_handling(overlong: Overlong | None, truncation_side: Side | None) -> None:
    """Raise ValueError for an unknown treatment of long texts; None is the model's own."""
    if overlong is not None:
        check_choice("overlong", overlong, get_args(Overlong))
    if truncation_side is not None:
        check_choice("truncation_side", truncation_side, get_args(Side))


class Truncations:
    """Finds the texts of one call that have more tokens than the model's maximum."""

    def __init__(self, tokenizer: Tokenizer, *, allowed: bool) -> None:
        self._tokenizer = tokenizer
        self._allowed = allowed
        self._count = 0
        self._first = ""

    @property
    def _limits(self) -> str:
        most = self._tokenizer.max_characters
        characters = "" if most is None else f" or {most} characters"
        return f"{self._tokenizer.max_tokens} tokens{characters}"

    def check(self, texts: Sequence[str | Pair], ids: Sequence[TokenIds]) -> None:
        """Record the texts that were truncated to these token ids.

        Raises OverlongTextError with the index of the first one if truncation is not allowed.
        """
        for index, (text, row) in enumerate(zip(texts, ids, strict=True)):
            length = _length_if_cut(text, index, row, self._tokenizer)
            if length is None:
                continue
            if not self._allowed:
                raise OverlongTextError(
                    f"is too long: it has {length}, and this model takes {self._limits}. It "
                    f"starts {start_of(text)}. Split it, or load with overlong='truncate'",
                    index,
                )
            self._first = self._first or f"{length} and starts {start_of(text)}"
            self._count += 1

    def warn(self, texts: int) -> None:
        """Warn about truncated texts, if any, out of the number of `texts`."""
        if self._count:
            warn_caller(
                f"{self._count} of {texts} texts have more than the {self._limits} "
                f"that this model takes; the first has {self._first}. The rest was "
                "ignored"
            )
            self._count, self._first = 0, ""


def _length_if_cut(text: str | Pair, index: int, ids: TokenIds, tokenizer: Tokenizer) -> str | None:
    if characters(text) > tokenizer.most_characters:  # counting the tokens would take gigabytes
        return f"{characters(text):,} characters"
    # Only a text with the maximum number of tokens can have been truncated.
    if ids.shape[-1] == tokenizer.max_tokens and (
        (count := tokenizer.count(text, index)) > tokenizer.max_tokens
    ):
        return f"{count:,} tokens"
    return None
