"""Checks of the arguments of calls, before any work is done."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

MOST = 1e15  # remains finite when it is converted to smaller units, as megabytes to bytes


def check_at_least(name: str, value: Any, least: float, otherwise: str = "") -> None:
    """Raise an error unless `value` is a number from `least` to `MOST`.

    None is valid if `otherwise` says so. Raises TypeError for a value that is not a number, and
    ValueError for a number out of range.
    """
    if value is None and otherwise:
        return
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(_expected(name, value, f"a number of at least {least}", otherwise))
    # `not <=` instead of `>`, so that NaN is invalid.
    if not least <= value <= MOST:
        wanted = f"at least {least}"
        if value > MOST:
            wanted = "a finite number" if value == math.inf else f"at most {MOST:g}"
        raise ValueError(_expected(name, value, wanted, otherwise))


def check_count(
    name: str, value: Any, least: int, otherwise: str = "", *, most: int | None = None
) -> None:
    """Raise an error unless `value` is an integer from `least` to `most`.

    None is valid if `otherwise` says so. Raises TypeError for a value that is not an integer, such
    as ``True`` and ``2.0``, and ValueError for an integer out of range. numpy's integers are valid.
    """
    if value is None and otherwise:
        return
    wanted = f"at least {least}" if most is None else f"{least} to {most}"
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer:
        raise TypeError(_expected(name, value, f"an integer, {wanted}", otherwise))
    if not least <= value <= (math.inf if most is None else most):
        raise ValueError(_expected(name, value, wanted, otherwise))


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of some names."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r}; expected one of {known}")


def _expected(name: str, value: object, wanted: str, otherwise: str) -> str:
    return f"{name}={value!r}; expected {', '.join(filter(None, [wanted, otherwise]))}"
