"""What a result is computed of: a text, or a pair of texts."""

from __future__ import annotations

Pair = tuple[str, str]
Text = str | Pair


def characters(text: Text) -> int:
    """Return the number of characters of a text or pair."""
    return len(text) if isinstance(text, str) else sum(map(len, text))
