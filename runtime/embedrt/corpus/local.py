"""The engine of one process: it reads ahead, and writes a part while the next is computed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from embedrt.corpus.part import Outcome, Run, make_part, read_run, runs
from embedrt.corpus.plan import Part, Plan
from embedrt.corpus.work import Work
from embedrt.embedder import Embedder

WRITERS = 2  # one computes while the other writes
AHEAD = 3  # parts that are read, computed or written at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """Runs parts one after the other, each on all cores that the Embedder may use."""

    threads: int | None = None
    """Cores to use; by default all that the affinity mask and the CPU quota allow."""

    def run(
        self, work: Work, plan: Plan, wanted: Iterator[Part], stop: Event
    ) -> Iterator[tuple[Outcome, int]]:
        """Yield each part's outcome with the tokens computed since the one before."""
        computed = 0
        turn = Lock()
        waiting: list[Future[Outcome | None]] = []
        with Embedder.load(work.bundle, threads=self.threads) as embedder:
            pool = ThreadPoolExecutor(WRITERS, "embedrt-corpus")

            def make(run: Run, part: Part, table: Any) -> Outcome | None:
                if stop.is_set():  # read ahead, and not begun
                    return None
                return make_part(work, run, part, table, embedder, turn)

            def finished() -> Iterator[tuple[Outcome, int]]:
                nonlocal computed
                for outcome in _finished(waiting):
                    before, computed = computed, embedder.stats().tokens
                    yield outcome, computed - before

            try:
                for run in runs(plan, wanted, None):
                    for part, table in read_run(work, run):
                        if stop.is_set():
                            break
                        waiting.append(pool.submit(make, run, part, table))
                        while len(waiting) >= AHEAD:
                            yield from finished()
                    if stop.is_set():
                        break
                while waiting:
                    yield from finished()
            finally:  # after an interrupt, without waiting for the part that is computed
                pool.shutdown(wait=False, cancel_futures=True)


def _finished(waiting: list[Future[Outcome | None]]) -> Iterator[Outcome]:
    """Wait for at least one part, and yield those that are done and were begun, in their order."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    finished = [one for one in waiting if one in done]
    waiting[:] = [one for one in waiting if one not in done]
    for one in finished:
        if (outcome := one.result()) is not None:
            yield outcome
