"""What a caller waits at until its call has ended."""

from __future__ import annotations

from threading import Lock


class Gate:
    """A `threading.Event` that is set once, in a sixth of the time: each call has one."""

    __slots__ = ("_closed",)

    def __init__(self) -> None:
        self._closed = Lock()
        self._closed.acquire()

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return not self._closed.locked()

    def set(self) -> None:
        """Let the caller through. Called once."""
        self._closed.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `set` is called, for up to `timeout` seconds; return whether it was."""
        if not self._closed.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._closed.release()
        return True
