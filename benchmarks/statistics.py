# ruff: noqa: A005 - imported as benchmarks.statistics, and nothing here is run as a script
"""What is made of raw repetitions: medians, their spread, percentiles, ratios, agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AGREEMENT = 0.10  # by which the ratios of two runs on one machine may differ


@dataclass(frozen=True)
class Ratio:
    """How two contenders that took turns compare."""

    value: float
    """Median over the repetitions of numerator / denominator."""
    spread: float
    """Interquartile range over those, as a share of the median."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share (0 to 1) lies, linear between neighbors."""
    if not values:
        raise ValueError("a percentile needs at least one value")
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}; expected 0 to 1")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    return percentile(values, 0.5)


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range as a share of the median; 0 where all values are 0."""
    width = percentile(values, 0.75) - percentile(values, 0.25)
    return width / abs(median(values)) if width else 0.0


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Compare two interleaved series, repetition by repetition.

    Both contenders of a pair ran within one round, so what slowed the machine then slowed both.

    Raises
    ------
    ValueError
        The series are empty or not of one length: they were not interleaved.
    """
    if len(numerator) != len(denominator) or not numerator:
        raise ValueError(
            f"{len(numerator)} and {len(denominator)} repetitions cannot be paired; "
            "a ratio needs two interleaved series"
        )
    pairs = [above / below for above, below in zip(numerator, denominator, strict=True)]
    return Ratio(median(pairs), spread(pairs))


def agree(first: float, second: float, tolerance: float = AGREEMENT) -> bool:
    """Whether two positive figures are within `tolerance` of each other, whichever is larger."""
    return max(first, second) <= min(first, second) * (1 + tolerance)
