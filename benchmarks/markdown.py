"""The lines of Markdown tables."""

from __future__ import annotations


def head(*titles: str, figures: bool = True) -> str:
    """Return the first two lines of a table.

    Figures, in all columns but the first, are right-aligned.
    """
    rest = "--:" if figures else ":--"
    return f"{row(*titles)}\n{row(':--', *[rest] * (len(titles) - 1))}"


def row(*cells: str) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"
