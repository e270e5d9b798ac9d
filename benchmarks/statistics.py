# ruff: noqa: A005 - imported as benchmarks.statistics, and nothing here is run as a script
"""Statistics of raw repetitions, and the format of figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of them lies, interpolating linearly."""
    return float(np.quantile(values, share))


def median(values: Sequence[float]) -> float:
    """Return the middle value, or the mean of the two in the middle."""
    return float(np.median(values))


def spread(values: Sequence[float]) -> float:
    """Return the interquartile range as a share of the median; 0 if all values are 0."""
    width = percentile(values, 0.75) - percentile(values, 0.25)
    return width / abs(median(values)) if width else 0.0


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median ratio of the pairs of two series that were measured in turns.

    They are compared pairwise because a slowdown affects both of a pair.
    """
    return median([above / below for above, below in zip(numerator, denominator, strict=True)])


def significant(value: float) -> str:
    """Format a figure with three significant digits, never with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.2e}")
    decimals = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{max(0, decimals)}f}"
