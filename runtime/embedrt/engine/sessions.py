"""The sessions of a bundle: one that uses one core and, on demand, one that uses all cores.

Concurrent batches run on one core each, which gives the highest throughput. A single batch would
leave the other cores idle. After a few single batches, the graph is therefore loaded a second time,
with a thread pool on all cores, to reduce their latency. Both sessions give the same bytes. A long
text waits for this load, which takes a fraction of the time that the second core saves.

After a pause, the threads of the pool have to wake up. On virtual machines, Linux may wake them on
the caller's core, where they compete with the caller until the scheduler's next tick moves them, up
to 4 ms later. After a pause, all cores are therefore used only for batches that take long enough on
one core to outweigh this delay.

Huge pages make batches faster, most of all those of single texts. After a few batches, each further
batch moves a few megabytes of the packed weights to huge pages, so that neither the load nor a
single text waits for the whole move.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from ctypes import c_int32
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle.manifest import Precision
from embedrt.bundle.weights import WEIGHTS
from embedrt.engine.call import FloatArray, Results, Row
from embedrt.engine.huge_pages import added_blocks, enlarge, memory_regions
from embedrt.engine.runner import Kernels, Pauses, Runner, TextIds, count_tokens, stack

# After this many single batches, more are likely, and worth the memory of a second session.
ALONE_BEFORE_ALL_CORES = 4
LONG_BATCH = 1024  # tokens of a single batch that is worth it at once

BATCHES_BEFORE_HUGE_PAGES = 4
BLOCKS_PER_BATCH = 2  # take about a millisecond

SHORT_PAUSE = 0.005  # seconds; after shorter pauses, the threads wake up fast
LONG_RUN = 0.015  # seconds on one core; longer runs gain more from all cores than waking costs

# Threads of the session for all cores are no more than these or the cores: a load waits while ONNX
# Runtime starts one after another.
THREADS = 64

LONGEST_LOAD = 10.0  # seconds that a fork waits for a load to finish

Submit = Callable[[Callable[[], None]], Future[None]]
"""Runs a function in another thread; raises RuntimeError if the process is shutting down."""

Convert = Callable[[FloatArray, NDArray[np.int64]], Sequence[Row]]
"""Makes the results of a batch, one a text, of the graph's output and input."""


class Sessions:
    """Chooses the session for a batch, and measures how fast one core is.

    Runs `kernels` if given, otherwise the graph in ONNX Runtime: for `precision`, `weights`,
    `plans_memory` and `by_token` see `Session`. `convert` is applied to the output of each batch.
    """

    def __init__(
        self,
        graph: Path,
        precision: Precision,
        threads: int,
        weights: mmap.mmap | None = None,
        convert: Convert | None = None,
        kernels: Kernels | None = None,
        *,
        plans_memory: bool = True,
        by_token: bool = False,
    ) -> None:
        self._by_token = by_token
        self._graph = graph.absolute()
        self._files = _identity(graph)
        self._weights = weights
        self._precision: Precision = precision
        self._threads = min(threads, max(THREADS, os.cpu_count() or 1))
        self._convert = convert
        self._kernels = kernels
        self.one_core: Runner
        self._small_pages: list[range]
        """Blocks of the one-core session that could be moved to huge pages."""
        if kernels is None:
            self.one_core, self._small_pages = self._load(plans_memory=plans_memory)
        else:
            self.one_core, self._small_pages = kernels, added_blocks([], kernels.regions)
        self.all_cores: Runner | None = None
        self.loading: Future[None] | None = None
        self.forks = 0
        """Forks that are about to happen, until which the session for all cores is not loaded."""
        self.pause_wanted = c_int32()
        """Not 0 while texts wait that should interrupt a batch on one core, see `Pauses`."""
        self.run_seconds = 0.0
        """Duration of all runs. Concurrent updates may lose one of them."""
        self._closed = False
        self._alone = 0
        self._batches = 0
        self._seconds_per_token = inf  # of the fastest run on one core
        self._last_end = -inf  # time at which the last run ended

    @property
    def dimension(self) -> int | None:
        """Components of a row of the output; None if the graph does not declare them."""
        return self.one_core.dimension

    @property
    def mixes(self) -> bool:
        """Whether the texts of a batch may have different token counts, see `Runner.mixes`."""
        return self.one_core.mixes

    @property
    def pauses(self) -> bool:
        """Whether a batch on one core can be interrupted between layers."""
        return self._kernels is not None

    def choose(self, tokens: int, submit: Submit) -> bool:
        """Return whether a single batch of `tokens` tokens uses all cores of an idle engine."""
        after_pause = perf_counter() - self._last_end >= SHORT_PAUSE
        if after_pause and tokens * self._seconds_per_token <= LONG_RUN:
            return False
        self._alone += 1
        loaded = self.all_cores is not None
        is_long = tokens >= LONG_BATCH
        wanted = self._threads > 1 and (is_long or self._alone >= ALONE_BEFORE_ALL_CORES)
        if wanted and self.loading is None and not (self._closed or self.forks):
            with suppress(RuntimeError):  # the process is shutting down
                self.loading = submit(self._load_for_all_cores)
        return loaded or (is_long and self.loading is not None)

    def run(
        self,
        texts: TextIds,
        *,
        on_all_cores: bool = False,
        in_pauses: Callable[[], None] | None = None,
    ) -> Results:
        """Run a batch, see `Runner.run`; return the result of each row.

        In the kernels and on one core, `in_pauses` is called between layers while `pause_wanted`.
        """
        session = self._loaded_for_all_cores() if on_all_cores else self.one_core
        paused = 0.0

        def use() -> None:
            nonlocal paused
            assert in_pauses is not None
            start = perf_counter()
            in_pauses()
            paused += perf_counter() - start

        start = perf_counter()
        try:
            if session is self._kernels and in_pauses is not None:
                embeddings = session.run(texts, Pauses(self.pause_wanted, use))
            else:
                embeddings = session.run(texts)
            seconds = perf_counter() - start - paused
            self.run_seconds += seconds
            if session is self.one_core:
                per_token = seconds / max(1, count_tokens(texts))
                self._seconds_per_token = min(self._seconds_per_token, per_token)
                if self._small_pages:
                    self._enlarge_pages()
            convert = self._convert
            return embeddings if convert is None else convert(embeddings, stack(texts))
        finally:
            self._last_end = perf_counter()

    def close(self) -> None:
        """Release the session for all cores and its threads."""
        self._closed = True
        self.all_cores = None

    def prepare_to_fork(self) -> None:
        """Release the session for all cores, whose threads do not exist in a forked child."""
        if self.loading and not self.loading.cancel():
            wait([self.loading], LONGEST_LOAD)
        self.loading = self.all_cores = None
        self._alone = 0
        # Moved after the fork, they would no longer be shared.
        enlarge(self._small_pages)
        self._small_pages = []

    def _enlarge_pages(self) -> None:
        self._batches += 1
        if self._batches > BATCHES_BEFORE_HUGE_PAGES:
            with suppress(IndexError):  # no block is left
                enlarge(self._small_pages.pop() for _ in range(BLOCKS_PER_BATCH))

    def _load(self, **options: Any) -> tuple[Runner, list[range]]:
        """Return a session of the graph with some options, and the blocks of memory it added."""
        # Imports ONNX Runtime, which the kernels do without.
        from embedrt.engine.session import Session  # noqa: PLC0415

        added = sum(size for _, _, size, _ in self._files)
        before = memory_regions(added)
        session = Session(
            self._graph, self._precision, weights=self._weights, by_token=self._by_token, **options
        )
        return session, added_blocks(before, memory_regions(added))

    def _loaded_for_all_cores(self) -> Runner:
        """Return the session for all cores after its load; the other one if that failed."""
        if self.all_cores is None and self.loading is not None:
            wait([self.loading])
        return self.all_cores or self.one_core

    def _load_for_all_cores(self) -> None:
        if self._kernels is not None:
            self.all_cores = self._kernels.on(self._threads)
            return
        session, blocks = self._load(threads=self._threads)
        enlarge(blocks)
        # Another bundle may have replaced the files, and two models must never be mixed.
        if _identity(self._graph) == self._files and not (self._closed or self.forks):
            self.all_cores = session


def _identity(graph: Path) -> list[tuple[int, int, int, int]]:
    """Return what identifies the graph file, and the weights file beside it if there is one."""
    files = [file.stat() for file in (graph, graph.with_name(WEIGHTS)) if file.exists()]
    return [(file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns) for file in files]
