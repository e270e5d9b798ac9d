"""Waits for a condition, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

SECONDS = 120.0  # timeout, longer than anything takes on a busy machine

Found = TypeVar("Found")


def wait_until(
    condition: Callable[[], Found], seconds: float = SECONDS, *, pause: float = 0.005
) -> Found:
    """Call `condition` until its result is true, and return that; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(pause)
    return found
