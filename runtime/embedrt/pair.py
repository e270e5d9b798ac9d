"""The input of a result: a text, or a pair of texts."""

from __future__ import annotations

from typing import Literal

Pair = tuple[str, str]
Text = str | Pair
TextKind = Literal["query", "document"]
"""The role of a text in a search, for models that compute queries and documents differently."""


def characters(text: Text) -> int:
    """Return the number of characters of a text or pair."""
    return len(text) if isinstance(text, str) else sum(map(len, text))
