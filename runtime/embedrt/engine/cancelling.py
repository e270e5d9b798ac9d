"""Cancelled calls, whose callers may be finalizers.

The garbage collector also ends the streams and coroutines that it finds, in whichever thread it
runs, and that thread may hold the engine's lock. So cancelling a call never waits for the lock.
"""

from __future__ import annotations

from collections import deque
from threading import Lock

from embedrt.engine.batching import Queue
from embedrt.engine.call import Call
from embedrt.errors import ClosedError


class Cancelled:
    """Calls that are to be removed from the queue, at once or before work is next taken from it."""

    def __init__(self, lock: Lock, queue: Queue) -> None:
        self._lock = lock
        self._queue = queue
        self._calls: deque[Call] = deque()

    def add(self, call: Call) -> bool:
        """Cancel a call; return whether the lock was free, and the call is removed already."""
        self._calls.append(call)
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self.remove()
        finally:
            self._lock.release()
        return True

    def remove(self) -> None:
        """Remove the calls from the queue. The caller must hold the lock."""
        while self._calls:
            self._queue.remove(self._calls.popleft(), ClosedError("this call was cancelled"))
