"""What a result is computed of: a text, or a pair of texts."""

from __future__ import annotations

from typing import Literal

Pair = tuple[str, str]
Text = str | Pair
TextKind = Literal["query", "document"]
"""What a text is in a search, for models that compute the two differently."""


def characters(text: Text) -> int:
    """Return the number of characters of a text or pair."""
    return len(text) if isinstance(text, str) else sum(map(len, text))
