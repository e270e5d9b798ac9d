"""The signals that end a command."""

from __future__ import annotations

import signal
import sys


def ending_signals() -> list[signal.Signals]:
    """Return the signals that ask a process to end: those of a keyboard, a system, a terminal."""
    found = [signal.SIGINT, signal.SIGTERM]
    # `nohup` starts a process that ignores the end of its terminal.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found
