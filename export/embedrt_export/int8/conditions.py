"""What must hold between the stages of the quantization.

Each stage checks what it is given and what it makes, so that a fault is named where it arises and
not by a proof that fails at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import QuantizationError

LARGEST = 127
PRODUCT = "MatMulIntegerToFloat"


def require_finite(what: str, values: NDArray[Any]) -> None:
    """Raise QuantizationError where a value is NaN or infinite."""
    if not np.isfinite(values).all():
        raise QuantizationError(f"{what}: NaN or infinity is among the values")


def require_positive(what: str, values: NDArray[Any]) -> None:
    """Raise QuantizationError where a value is not finite, zero or negative."""
    require_finite(what, values)
    if not (values > 0).all():
        raise QuantizationError(f"{what}: {values.min()} is among the values; all must be positive")


def require_shape(what: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise QuantizationError where an array is of another shape."""
    if values.shape != shape:
        raise QuantizationError(f"{what}: the shape is {values.shape}; expected {shape}")


def require_count(what: str, found: int, expected: int) -> None:
    """Raise QuantizationError where a stage made more or fewer of something than it should."""
    if found != expected:
        raise QuantizationError(f"{what}: there are {found}; expected {expected}")


def to_int8(what: str, values: NDArray[Any], scales: NDArray[Any]) -> NDArray[np.int8]:
    """Round values over scales to int8.

    Raises QuantizationError where a scale is not finite and positive, or a result beyond 127.
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
