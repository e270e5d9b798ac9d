"""What happens to a text of more tokens than the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from embedrt.errors import OverlongTextError, warn_caller
from embedrt.text.inputs import start_of
from embedrt.text.tokenizer import MOST_CHARACTERS, TokenIds, Tokenizer

Overlong = Literal["truncate", "warn", "error"]


class Truncations:
    """The texts of one call that have more tokens than the model takes."""

    def __init__(self, tokenizer: Tokenizer, *, allowed: bool) -> None:
        self._tokenizer = tokenizer
        self._allowed = allowed
        self._count = 0
        self._first = ""

    def look(self, texts: Sequence[str], ids: Sequence[TokenIds]) -> None:
        """Note the texts that truncation cut, given with their token ids.

        Raises OverlongTextError with the place of the first one, where none is allowed.
        """
        for index, (text, row) in enumerate(zip(texts, ids, strict=True)):
            length = _length_if_cut(text, index, row, self._tokenizer)
            if length is None:
                continue
            if not self._allowed:
                raise OverlongTextError(
                    f"is too long: it has {length}, and this model takes "
                    f"{self._tokenizer.max_tokens} tokens. It starts {start_of(text)}. Split it, "
                    "or load with overlong='truncate'",
                    index,
                )
            self._first = self._first or f"{length} and starts {start_of(text)}"
            self._count += 1

    def warn(self, texts: int) -> None:
        """Warn the caller of so many texts of those that were cut, if there are any."""
        if self._count:
            warn_caller(
                f"{self._count} of {texts} texts have more than the {self._tokenizer.max_tokens} "
                f"tokens that this model takes; the first has {self._first}. What follows was "
                "ignored"
            )
            self._count, self._first = 0, ""


def _length_if_cut(text: str, index: int, ids: TokenIds, tokenizer: Tokenizer) -> str | None:
    if len(text) > MOST_CHARACTERS:  # counting its tokens takes gigabytes
        return f"{len(text):,} characters"
    # Only a text that fills the limit can have been cut; the others need not be counted.
    if len(ids) == tokenizer.max_tokens and (
        (count := tokenizer.count(text, index)) > tokenizer.max_tokens
    ):
        return f"{count:,} tokens"
    return None
