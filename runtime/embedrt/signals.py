"""The signals that end a command."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT  # the exit status that shells expect

Handler = Callable[[int, FrameType | None], object]


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask a process to end: those of a keyboard, a system, a terminal."""
    found = [signal.SIGINT, signal.SIGTERM]
    # `nohup` starts a process that ignores the end of its terminal.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Handler) -> Iterator[None]:
    """Handle signals by `handler`, and by their previous handlers afterwards."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
