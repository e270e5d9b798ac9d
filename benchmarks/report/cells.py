"""Cells of tables: functions from a row to the text that a column shows of it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness.rows import Row
from benchmarks.statistics import median, percentile, significant, spread

Cell = Callable[[Row], str]


def scaled(factor: float) -> Cell:
    """Show the median in another unit."""
    return lambda row: significant(median(row.values) * factor)


def decimals(digits: int) -> Cell:
    """Show the median with so many decimals."""
    return lambda row: f"{median(row.values):.{digits}f}"


def percentiles(*shares: float) -> Cell:
    """Show percentiles in milliseconds."""
    return lambda row: " / ".join(significant(percentile(row.values, p) * 1e3) for p in shares)


milliseconds, seconds, megabytes = scaled(1e3), scaled(1), scaled(1e-6)


def texts_per_second(row: Row) -> str:
    """From the median time."""
    return significant(row.texts / median(row.values))


def tokens_per_second(row: Row) -> str:
    """From the median time."""
    return significant(row.tokens / median(row.values))


def middle_half(row: Row) -> str:
    """The interquartile range as a share of the median."""
    return f"{spread(row.values):.1%} wide"


def same_bytes(row: Row) -> str:
    """Whether every text has the same bytes alone and in a batch."""
    share = median(row.values)
    return "yes" if share == 1 else f"no: {share:.1%} of the texts"
