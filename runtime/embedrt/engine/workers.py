"""The threads of workers, which also start after the end of the main thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import RLock, Thread

NO_THREAD = (
    "no thread can be started for this call: the limit of threads or memory is reached, or the "
    "interpreter is shutting down. Raise the limit, or call from fewer threads"
)


class Workers:
    """Starts threads on demand, and keeps idle ones for the next work. Starts none before.

    Parameters
    ----------
    most
        Number of threads.
    lock
        Held by the caller of `start`.
    """

    def __init__(self, most: int, lock: RLock) -> None:
        self._executor = ThreadPoolExecutor(most, "embedrt")
        self._lock = lock

    def submit(self, run: Callable[[], None]) -> Future[None]:
        """Run a function in a thread; raise RuntimeError if the main thread has ended."""
        return self._executor.submit(run)

    def start(self, work: Callable[[], None]) -> bool:
        """Run a function in a thread; return False if the system starts none."""
        wanted = [True]

        def run() -> None:
            with self._lock:
                if not wanted:
                    return
            work()

        try:
            self._executor.submit(run)
        except RuntimeError:
            # The executor refuses work after the end of the main thread, which other threads and
            # functions of atexit survive. Work whose thread it could not start stays in its queue.
            wanted.clear()
            try:
                Thread(target=work, name="embedrt", daemon=True).start()
            except RuntimeError:
                return False
        return True

    def end(self) -> None:
        """End the idle threads, and others when they are idle."""
        self._executor.shutdown(wait=False)
