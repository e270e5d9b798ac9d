# ruff: noqa: A005 - imported as benchmarks.statistics, and nothing here is run as a script
"""Statistics of raw repetitions, and the format of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

AGREEMENT = 0.10  # relative difference up to which the ratios of two runs agree


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two contenders that were measured alternately."""

    value: float
    """The median of numerator / denominator over the repetitions."""
    spread: float
    """The interquartile range of the ratios, as a share of the median."""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of them lies, interpolating linearly."""
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
    """Return the interquartile range as a share of the median; 0 if all values are 0."""
    width = percentile(values, 0.75) - percentile(values, 0.25)
    return width / abs(median(values)) if width else 0.0


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Compare two interleaved series pairwise, because a slowdown affects both of a pair.

    Raises ValueError if the series are empty or differ in length and so were not interleaved.
    """
    if len(numerator) != len(denominator) or not numerator:
        raise ValueError(
            f"{len(numerator)} and {len(denominator)} repetitions cannot be paired; "
            "a ratio needs two interleaved series"
        )
    pairs = [above / below for above, below in zip(numerator, denominator, strict=True)]
    return Ratio(median(pairs), spread(pairs))


def agree(first: float, second: float, tolerance: float = AGREEMENT) -> bool:
    """Whether the larger of two positive figures exceeds the other by at most `tolerance`."""
    return max(first, second) <= min(first, second) * (1 + tolerance)


def significant(value: float, digits: int = 3) -> str:
    """Format a figure with `digits` significant digits, never with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, decimals)}f}"
