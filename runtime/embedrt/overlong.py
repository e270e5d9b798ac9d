"""What happens to a text of more tokens than the model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from embedrt.caller import warn_caller
from embedrt.errors import OverlongTextError
from embedrt.tokenizer import TokenIds, Tokenizer

Overlong = Literal["truncate", "warn", "error"]


def report_overlong(
    overlong: Overlong, tokenizer: Tokenizer, texts: Sequence[str], ids: Sequence[TokenIds]
) -> None:
    """Warn of, or raise for, the texts that truncation cut; with ``"truncate"`` do nothing."""
    if overlong == "truncate":
        return
    limit = tokenizer.max_tokens
    # Only a text that fills the limit can have been cut; the others need not be counted.
    full = [text for text, row in zip(texts, ids, strict=True) if len(row) == limit]
    cut = [(text, count) for text in full if (count := tokenizer.count(text)) > limit]
    if not cut:
        return
    text, count = cut[0]
    start = text if len(text) <= 40 else f"{text[:40]}…"
    message = (
        f"{len(cut)} of {len(texts)} texts have more than the {limit} tokens that this model "
        f"takes; the first has {count} and starts {start!r}"
    )
    if overlong == "error":
        raise OverlongTextError(f"{message}. Split it, or load with overlong='truncate'")
    warn_caller(f"{message}. What follows was ignored")
