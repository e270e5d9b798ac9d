"""The loaded graph and the threads that run it.

Batches run side by side, one core each: that is the most texts a second. A batch that comes alone
would leave the other cores idle, so for callers who embed one text at a time the graph is loaded a
second time, for all cores; it gives the same bytes.

After a pause the threads of all cores must be woken. On virtual machines Linux wakes them on the
core of their caller, where they and it take turns until a tick of the scheduler, 4 ms, moves them:
then all cores are slower, but for what takes one core longer than they lose.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import ParamSpec, TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import ClosedError, ForkedError
from embedrt.manifest import Precision
from embedrt.session import FloatArray, Session

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# A caller who comes alone so often will come again: worth the memory of a second copy.
ALONE_BEFORE_ALL_CORES = 4

SHORT_PAUSE = 0.005  # seconds after which threads still wake fast
LONG_RUN = 0.015  # seconds on one core that all cores shorten by more than their waking takes

LONGEST_LOAD = 10.0  # seconds that a fork waits for


class Engine:
    """Runs batches of token ids. Safe to use from many threads, and in a fork while idle."""

    def __init__(self, graph: Path, precision: Precision, threads: int) -> None:
        self.threads = threads
        self._graph = graph.absolute()
        self._file = _identity(graph)
        self._precision: Precision = precision
        self._one_core = Session(graph, precision)
        self._all_cores: Session | None = None
        self._loading: Future[None] | None = None
        self._alone = 0
        self._pace = inf  # seconds a token, the fewest that one core took
        self._ended = -inf  # when the last run did
        self._broken = ""
        self._closed = False
        self._start_anew()
        _ENGINES.add(self)

    @property
    def dimension(self) -> int | None:
        """Components of an embedding, where the graph tells."""
        return self._one_core.dimension

    def run(self, input_ids: NDArray[np.int64]) -> FloatArray:
        """Embed one batch on one core. Shape: (batch, tokens) to (batch, dimension)."""
        return self._run(input_ids, alone=False)

    def run_alone(self, input_ids: NDArray[np.int64]) -> FloatArray:
        """Embed a batch that nothing else waits for, on all cores if they are idle."""
        return self._run(input_ids, alone=True)

    def submit(
        self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Have a worker thread do some work that calls `run`."""
        self.check_usable()
        try:
            return self._workers.submit(work, *args, **kwargs)
        except RuntimeError:
            self.check_usable()  # closed since
            raise

    def check_usable(self) -> None:
        """Raise ClosedError after `close`, ForkedError in a process that was forked off a run."""
        if self._broken:
            raise ForkedError(self._broken)
        if self._closed:
            raise ClosedError("this Embedder has been closed; load the bundle again")

    def close(self) -> None:
        """Let the threads end once their work is done."""
        self._closed = True
        self._all_cores = None
        self._workers.shutdown(wait=False)

    def prepare_to_fork(self) -> None:
        """Give up the session for all cores: a child could neither use nor end its threads."""
        if self._loading and not self._loading.cancel():
            wait([self._loading], LONGEST_LOAD)
        self._loading = self._all_cores = None
        self._alone = 0

    def restart_in_fork(self) -> None:
        """Go on in a forked child, where of the parent's threads none is left."""
        if self._running:
            self._broken = (
                "this process was forked while an Embedder of its parent was running, and may "
                "hang on its locks; fork before encoding, or load the bundle after the fork"
            )
        self._start_anew()

    def _start_anew(self) -> None:
        # Starts no thread before its first work.
        self._workers = ThreadPoolExecutor(self.threads, "embedrt")
        self._lock = Lock()
        self._running = 0

    def _run(self, input_ids: NDArray[np.int64], *, alone: bool) -> FloatArray:
        session = self._one_core
        with self._lock:
            start = perf_counter()
            if alone and self._running == 0 and self._is_worth_waking(input_ids.size, start):
                session = self._all_cores or session
                self._count_alone()
            self._running += 1
        try:
            embedding = session.run(input_ids)
            if session is self._one_core:
                self._pace = min(self._pace, (perf_counter() - start) / input_ids.size)
            return embedding
        finally:
            with self._lock:
                self._running -= 1
                self._ended = perf_counter()

    def _is_worth_waking(self, tokens: int, now: float) -> bool:
        return now - self._ended < SHORT_PAUSE or tokens * self._pace > LONG_RUN

    def _count_alone(self) -> None:
        self._alone += 1
        if self._alone == ALONE_BEFORE_ALL_CORES and self.threads > 1:
            # Aside: the one-core session serves until it is there, and if it never will be.
            with suppress(RuntimeError):  # closed since, or the process is ending
                self._loading = self._workers.submit(self._load_for_all_cores)

    def _load_for_all_cores(self) -> None:
        session = Session(self._graph, self._precision, threads=self.threads)
        # Another bundle may have taken its place: two models must never be mixed.
        if _identity(self._graph) == self._file and not self._closed:
            self._all_cores = session


def _identity(file: Path) -> tuple[int, int, int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_ENGINES: WeakSet[Engine] = WeakSet()


def _prepare_all_to_fork() -> None:
    for engine in list(_ENGINES):
        engine.prepare_to_fork()


def _restart_all_in_fork() -> None:
    for engine in list(_ENGINES):
        engine.restart_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_all_to_fork, after_in_child=_restart_all_in_fork)
