"""Wakes the asyncio tasks whose calls have ended.

Waking a loop is a system call, in which Python lets another thread run. That thread would soon wait
for the engine's lock, so tasks are woken after its release: once for all that ended under it.
"""

from __future__ import annotations

from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import, and already imported by async callers
    from asyncio import AbstractEventLoop, Future


class Sleepers:
    """Futures that are to be completed, by their loops."""

    def __init__(self, lock: Lock) -> None:
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
