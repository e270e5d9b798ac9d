"""Frees memory between the stages of an export."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

from torch import nn


def trim() -> None:
    """Return the memory that glibc's allocator holds free after a stage has dropped its arrays."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def drop_weights(model: nn.Module) -> None:
    """Free the weights of a model that is still referenced; it cannot run afterwards."""
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    trim()
