"""Work that a thread leaves for later because it holds the engine's lock already.

Python can call some functions at any point of a thread: signal handlers, which may close the
engine, and finalizers of streams and coroutines during garbage collection, which cancel calls. If
the thread holds the lock, they can neither wait for it nor change the state that it protects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock

from embedrt.errors import EmbedrtError

INSIDE = (
    "a signal handler or a finalizer called an Embedder while the same thread was in the middle of "
    "another call; call it from another thread, or after the handler"
)


class Deferred:
    """Calls functions with the lock held: at once, or later if this thread holds it already."""

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self._waiting: deque[Callable[[], None]] = deque()

    def do(self, what: Callable[[], None]) -> bool:
        """Call a function with the lock held; return False if it is called later."""
        if self._is_inside():
            self._waiting.append(what)
            return False
        with self._lock:
            self._waiting.append(what)
            self.do_waiting()
        return True

    def do_waiting(self) -> None:
        """Call the functions that were left for later. The caller must hold the lock."""
        while self._waiting:
            self._waiting.popleft()()

    def refuse_inside(self) -> None:
        """Raise EmbedrtError if this thread holds the lock already."""
        if self._is_inside():
            raise EmbedrtError(INSIDE)

    def _is_inside(self) -> bool:
        # As threading.Condition finds out whether its lock is held.
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001
        return owned
