"""What happens to a text of more tokens than the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from embedrt.errors import OverlongTextError, warn_caller
from embedrt.text.inputs import start_of
from embedrt.text.tokenizer import MOST_CHARACTERS, TokenIds, Tokenizer

Overlong = Literal["truncate", "warn", "error"]


def report_overlong(
    overlong: Overlong, tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[TokenIds]
) -> None:
    """Warn of, or raise for, the texts that truncation cut; with ``"truncate"`` do nothing.

    Raises OverlongTextError with the place of the first one among `texts`.
    """
    if overlong == "truncate":
        return
    limit = tokenizer.max_tokens
    cut: list[tuple[str, str]] = []
    for index, (text, row) in enumerate(zip(texts, ids, strict=True)):
        length = _length_if_cut(text, index, row, tokenizer)
        if length is None:
            continue
        if overlong == "error":
            raise OverlongTextError(
                f"is too long: it has {length}, and this model takes {limit} tokens. It starts "
                f"{start_of(text)}. Split it, or load with overlong='truncate'",
                index,
            )
        cut.append((length, start_of(text)))
    if cut:
        length, start = cut[0]
        warn_caller(
            f"{len(cut)} of {len(texts)} texts have more than the {limit} tokens that this model "
            f"takes; the first has {length} and starts {start}. What follows was ignored"
        )


def _length_if_cut(text: str, index: int, ids: TokenIds, tokenizer: Tokenizer) -> str | None:
    if len(text) > MOST_CHARACTERS:  # counting its tokens takes gigabytes
        return f"{len(text):,} characters"
    # Only a text that fills the limit can have been cut; the others need not be counted.
    if len(ids) == tokenizer.max_tokens and (
        (count := tokenizer.count(text, index)) > tokenizer.max_tokens
    ):
        return f"{count:,} tokens"
    return None
