"""Wakes the threads and asyncio tasks whose calls have ended.

Waking a loop is a system call, in which Python lets another thread run. That thread would soon wait
for the engine's lock, so tasks are woken after its release: once for all that ended under it.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock, RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, and already imported by async callers
    from asyncio import AbstractEventLoop, Future


class Latch:
    """An event that is set once, and for which one thread waits: a lock is enough for that."""

    __slots__ = ("_is_set", "_lock")

    def __init__(self) -> None:
        self._is_set = False
        self._lock = Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        """Whether it has been set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake the thread that waits. May be called once."""
        self._is_set = True
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for `timeout` seconds at most; return whether it is set."""
        return self._is_set or self._lock.acquire(timeout=-1 if timeout is None else timeout)


class Sleepers:
    """Futures to complete, each in its own event loop."""

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self._futures: dict[AbstractEventLoop, list[Future[None]]] = {}

    def add(self, future: Future[None]) -> None:
        """Register a future, which the next `wake` completes. The caller holds the lock."""
        self._futures.setdefault(future.get_loop(), []).append(future)

    def wake(self) -> None:
        """Complete the futures, each in its loop's thread. The caller must not hold the lock."""
        if not self._futures:
            return
        with self._lock:
            woken, self._futures = self._futures, {}
        for loop, futures in woken.items():
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(_complete, futures)


def _complete(futures: list[Future[None]]) -> None:
    for future in futures:
        if not future.done():  # the caller may have been cancelled
            future.set_result(None)
