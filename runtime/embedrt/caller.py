"""Warnings that point at the line of whoever called us."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

PACKAGE = str(Path(__file__).parent)


def warn_caller(message: str) -> None:
    """Warn as from the nearest frame outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
