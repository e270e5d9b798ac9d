"""The engine for one process: reads ahead, and writes a part while it computes the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from embedrt.arguments import check_count
from embedrt.corpus.computing import load_to_embed
from embedrt.corpus.part import Outcome, Run, make_part, read_run, runs
from embedrt.corpus.plan import Part, Plan
from embedrt.corpus.work import Work

WRITERS = 2  # threads: one computes while the other writes
AHEAD = 3  # parts in memory: read, computed or written


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEngine:
    """Runs parts one after the other, each on all cores that the Embedder may use."""

    threads: int | None = None
    """Cores to use; by default all that the affinity mask and the CPU quota allow."""

    def __post_init__(self) -> None:
        check_count("threads", self.threads, 1, "or None")

    def run(
        self, work: Work, plan: Plan, wanted: Iterator[Part], stop: Event
    ) -> Iterator[tuple[Outcome, int]]:
        """Yield each part's outcome, with the number of tokens computed since the previous one."""
        turn, computed = Lock(), 0
        with load_to_embed(work.bundle, self.threads, work.engine) as embedder:

            def make(run: Run, part: Part, table: Any) -> Outcome | None:
                if stop.is_set():  # read ahead, and not begun
                    return None
                return make_part(work, run, part, table, embedder, turn)

            for outcome in _in_order(_read_all(work, plan, wanted, stop), make):
                before, computed = computed, embedder.stats().tokens
                yield outcome, computed - before


Task = tuple[Run, Part, Any]


def _read_all(work: Work, plan: Plan, wanted: Iterator[Part], stop: Event) -> Iterator[Task]:
    for run in runs(plan, wanted, None):
        for part, table in read_run(work, run):
            if stop.is_set():
                return
            yield run, part, table


def _in_order(
    tasks: Iterator[Task], make: Callable[[Run, Part, Any], Outcome | None]
) -> Iterator[Outcome]:
    """Make parts in threads, reading ahead, and yield the outcomes of those that were begun."""
    waiting: list[Future[Outcome | None]] = []
    pool = ThreadPoolExecutor(WRITERS, "embedrt-corpus")
    try:
        for task in tasks:
            waiting.append(pool.submit(make, *task))
            while len(waiting) >= AHEAD:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)
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
