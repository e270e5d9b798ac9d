"""The graph, loaded for one core and, once callers come alone, for all cores.

Batches run side by side, one core each: that is the most texts a second. A batch that comes alone
would leave the other cores idle, so for callers who embed one text at a time the graph is loaded a
second time, for all cores; it gives the same bytes.

After a pause the threads of all cores must be woken. On virtual machines Linux wakes them on the
core of their caller, where they and it take turns until a tick of the operating system, 4 ms, moves
them: then all cores are slower, but for what takes one core longer than they lose.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from math import inf
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import Precision
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.session import FloatArray, Session

# A caller who comes alone so often will come again: worth the memory of a second copy.
ALONE_BEFORE_ALL_CORES = 4

SHORT_PAUSE = 0.005  # seconds after which threads still wake fast
LONG_RUN = 0.015  # seconds on one core that all cores shorten by more than their waking takes

LONGEST_LOAD = 10.0  # seconds that a fork waits for

Aside = Callable[[Callable[[], None]], Future[None]]
"""Has a thread do some work meanwhile; raises RuntimeError where there is none any more."""


class Sessions:
    """Chooses the session for a batch, and measures how fast one core is."""

    def __init__(
        self, graph: Path, precision: Precision, threads: int, weights: mmap.mmap | None = None
    ) -> None:
        self._graph = graph.absolute()
        self._files = _identity(graph)
        self._weights = weights
        self._precision: Precision = precision
        self._threads = threads
        self.one_core = Session(graph, precision, weights=weights)
        self.all_cores: Session | None = None
        self.loading: Future[None] | None = None
        self._closed = False
        self._alone = 0
        self._pace = inf  # seconds a token, the fewest that one core took
        self._ended = -inf  # when the last run did

    @property
    def dimension(self) -> int | None:
        """Components of an embedding, where the graph tells."""
        return self.one_core.dimension

    def choose(self, tokens: int, aside: Aside) -> Session:
        """Return the session for a batch of so many tokens that comes alone, to an idle engine."""
        if perf_counter() - self._ended >= SHORT_PAUSE and tokens * self._pace <= LONG_RUN:
            return self.one_core
        session = self.all_cores or self.one_core
        self._alone += 1
        if self._alone == ALONE_BEFORE_ALL_CORES and self._threads > 1 and not self._closed:
            # Aside: the one-core session serves until it is there, and if it never will be.
            with suppress(RuntimeError):  # the process is ending
                self.loading = aside(self._load_for_all_cores)
        return session

    def run(self, session: Session, input_ids: NDArray[np.int64]) -> FloatArray:
        """Embed one batch. Shape: (batch, tokens) to (batch, dimension)."""
        start = perf_counter()
        try:
            embeddings = session.run(input_ids)
            if session is self.one_core:
                self._pace = min(self._pace, (perf_counter() - start) / input_ids.size)
            return embeddings
        finally:
            self._ended = perf_counter()

    def close(self) -> None:
        """Give up the session for all cores, and its threads."""
        self._closed = True
        self.all_cores = None

    def prepare_to_fork(self) -> None:
        """Give up the session for all cores: a child could neither use nor end its threads."""
        if self.loading and not self.loading.cancel():
            wait([self.loading], LONGEST_LOAD)
        self.loading = self.all_cores = None
        self._alone = 0

    def _load_for_all_cores(self) -> None:
        session = Session(
            self._graph, self._precision, threads=self._threads, weights=self._weights
        )
        # Another bundle may have taken its place: two models must never be mixed.
        if _identity(self._graph) == self._files and not self._closed:
            self.all_cores = session


def _identity(graph: Path) -> list[tuple[int, int, int, int]]:
    """Of the graph, and of the weights beside it where the format has them there."""
    files = [file.stat() for file in (graph, graph.with_name(WEIGHTS)) if file.exists()]
    return [(file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns) for file in files]
