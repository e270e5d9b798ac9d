"""Preconditions and postconditions of the quantization stages.

Each stage checks its input and output, so that an error names the stage that caused it instead of
surfacing in the final comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import QuantizationError

LARGEST = 127
PRODUCT = "MatMulIntegerToFloat"


def require_finite(what: str, values: NDArray[Any]) -> None:
    """Raise QuantizationError if a value is NaN or infinite."""
    if not np.isfinite(values).all():
        raise QuantizationError(f"{what}: NaN or infinity is among the values")


def require_positive(what: str, values: NDArray[Any]) -> None:
    """Raise QuantizationError unless all values are finite and positive."""
    require_finite(what, values)
    if not (values > 0).all():
        raise QuantizationError(f"{what}: {values.min()} is among the values; all must be positive")


def require_shape(what: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise QuantizationError unless an array has this shape."""
    if values.shape != shape:
        raise QuantizationError(f"{what}: the shape is {values.shape}; expected {shape}")


def require_count(what: str, found: int, expected: int) -> None:
    """Raise QuantizationError unless a stage produced the expected count."""
    if found != expected:
        raise QuantizationError(f"{what}: there are {found}; expected {expected}")


def to_int8(what: str, values: NDArray[Any], scales: NDArray[Any]) -> NDArray[np.int8]:
    """Divide values by scales and round to int8.

    Raises QuantizationError if a scale is not finite and positive, or if a result exceeds 127.
    """
    require_finite(what, values)
    require_positive(f"{what}, scales", scales)
    rounded = np.round(values / scales)
    if rounded.size and np.abs(rounded).max() > LARGEST:
        raise QuantizationError(
            f"{what}: {np.abs(rounded).max():g} steps are needed, and int8 has {LARGEST}"
        )
    steps: NDArray[np.int8] = rounded.astype(np.int8)
    return steps
