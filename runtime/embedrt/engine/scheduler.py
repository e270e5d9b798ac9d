"""The loaded graph and the threads that run it.

Batches run side by side, one core each: that is the most texts a second. A batch that comes alone
would leave the other cores idle, so for callers who embed one text at a time the graph is loaded a
second time, for all cores; it gives the same bytes.

After a pause the threads of all cores must be woken. On virtual machines Linux wakes them on the
core of their caller, where they and it take turns until a tick of the scheduler, 4 ms, moves them:
then all cores are slower, but for what takes one core longer than they lose.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import ParamSpec, TypeVar
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import Precision
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.session import FloatArray, Session
from embedrt.errors import ClosedError, ForkedError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# A caller who comes alone so often will come again: worth the memory of a second copy.
ALONE_BEFORE_ALL_CORES = 4

SHORT_PAUSE = 0.005  # seconds after which threads still wake fast
LONG_RUN = 0.015  # seconds on one core that all cores shorten by more than their waking takes

LONGEST_LOAD = 10.0  # seconds that a fork waits for


class Engine:
    """Runs batches of token ids. Safe to use from many threads, and in a fork while idle."""

    def __init__(
        self, graph: Path, precision: Precision, threads: int, weights: mmap.mmap | None = None
    ) -> None:
        self.threads = threads
        self._graph = graph.absolute()
        self._files = _identity(graph)
        self._precision: Precision = precision
        self._weights = weights
        self._one_core = Session(graph, precision, weights=weights)
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
        session = Session(self._graph, self._precision, threads=self.threads, weights=self._weights)
        # Another bundle may have taken its place: two models must never be mixed.
        if _identity(self._graph) == self._files and not self._closed:
            self._all_cores = session


def _identity(graph: Path) -> list[tuple[int, int, int, int]]:
    """Of the graph, and of the weights beside it where the format has them there."""
    files = [file.stat() for file in (graph, graph.with_name(WEIGHTS)) if file.exists()]
    return [(file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns) for file in files]


_ENGINES: WeakSet[Engine] = WeakSet()


def _prepare_all_to_fork() -> None:
    for engine in list(_ENGINES):
        engine.prepare_to_fork()


def _restart_all_in_fork() -> None:
    for engine in list(_ENGINES):
        engine.restart_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_all_to_fork, after_in_child=_restart_all_in_fork)


# From measurement: throughput is the same from 128 to 1,024 tokens a batch and falls beyond, where
# the activations leave the core's cache; memory grows with them.
TOKENS_PER_BATCH = 256


def plan_batches(
    lengths: NDArray[np.int64],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    texts_per_batch: int | None = None,
) -> list[NDArray[np.int64]]:
    """Split texts into batches of equal token count.

    Parameters
    ----------
    lengths
        Tokens of each text. Shape: (n,).
    tokens_per_batch
        A batch holds at most this many tokens, or one text if that alone has more.
    texts_per_batch
        A batch holds at most this many texts.

    Returns
    -------
    list of index arrays
        Each text's index in exactly one batch; the batches with most work first, so that the
        workers finish together.
    """
    order = np.argsort(-lengths, kind="stable")
    boundaries = np.flatnonzero(np.diff(lengths[order])) + 1
    batches: list[NDArray[np.int64]] = []
    for group in np.split(order, boundaries):
        if not group.size:
            continue
        length = int(lengths[group[0]])
        texts = max(1, tokens_per_batch // max(1, length))
        if texts_per_batch is not None:
            texts = min(texts, texts_per_batch)
        batches += [group[start : start + texts] for start in range(0, len(group), texts)]
    return sorted(batches, key=lambda batch: -len(batch) * int(lengths[batch[0]]))


# Enough texts that batches of equal length fill up, few enough that their tokens are small.
WINDOW = 2048


@dataclass(frozen=True, slots=True)
class Window:
    """Texts whose vectors are being computed."""

    vectors: NDArray[np.float32]
    """Shape: (texts, dimension). Complete once `results` has been exhausted."""
    runs: list[Future[int]]
    """Each gives the number of texts that it finished."""

    def results(self) -> Iterator[int]:
        """Wait for the runs, yielding how many texts each finished; raise the first failure."""
        for run in self.runs:
            yield run.result()

    def cancel(self) -> None:
        """Drop the runs that have not started."""
        for run in self.runs:
            run.cancel()


def chunks(texts: Iterable[str], size: int = WINDOW) -> Iterator[list[str]]:
    """Cut an iterable into lists of `size` texts, the last one shorter."""
    iterator = iter(texts)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def one_ahead(windows: Iterator[Window]) -> Iterator[Window]:
    """Yield each window after the next has been started, so that the workers never wait.

    A consumer that stops early, or fails, cancels what has not started.
    """
    pending: list[Window] = []
    try:
        for window in windows:
            pending.append(window)
            if len(pending) > 1:
                yield pending[0]
                del pending[0]
        yield from pending
    finally:
        for window in pending:
            window.cancel()
