"""Work that a thread leaves for later because it holds the engine's lock already.

Python calls some functions anywhere in a thread: the handlers of signals, which may close the
engine, and the finalizers of streams and coroutines that the garbage collector finds, which cancel
calls. If the thread holds the lock, they can neither wait for it nor change what it protects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock

from embedrt.errors import EmbedrtError

INSIDE = (
    "an Embedder was called by the handler of a signal, or by a finalizer, in the middle of a call "
    "in the same thread; call it from another thread, or after the handler"
)


class Deferred:
    """What is to be done while the lock is held, at once or before work is next taken."""

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self._waiting: deque[Callable[[], None]] = deque()

    def do(self, what: Callable[[], None]) -> bool:
        """Do something, with the lock; return whether it is done already."""
        if self._is_inside():
            self._waiting.append(what)
            return False
        with self._lock:
            self._waiting.append(what)
            self.do_waiting()
        return True

    def do_waiting(self) -> None:
        """Do what was left for later. The caller must hold the lock."""
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
