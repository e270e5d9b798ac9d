"""The threads that tokenize texts and run batches, shared by all callers.

At most `threads` cores are in use, regardless of the number of callers. If a core is free, a call
runs in its caller's thread, which saves a single text the handover to another thread. Otherwise the
caller waits, and worker threads batch the texts of all waiting callers. Workers start when there is
work and end when there is none.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Condition, RLock

from embedrt.bundle.manifest import Precision
from embedrt.engine.at_once import Ran, run_at_once
from embedrt.engine.batching import Queue
from embedrt.engine.cache import VectorCache
from embedrt.engine.call import Call, TokenizeTexts
from embedrt.engine.deferring import Deferred
from embedrt.engine.forks import FORKED, follow_forks
from embedrt.engine.outcomes import run_batch, tokenize_slices
from embedrt.engine.runner import Kernels
from embedrt.engine.sessions import Convert, Sessions
from embedrt.engine.stats import Stats
from embedrt.engine.waking import Sleepers
from embedrt.engine.work import Batch, Tokenize
from embedrt.engine.workers import NO_THREAD, Workers
from embedrt.errors import ClosedError, EmbedrtError, ForkedError, OverloadedError, TextError
from embedrt.progress import increments

Progress = Callable[[int], object]
"""Called with the number of texts completed since the last call."""

CLOSED = "this Embedder has been closed; load the bundle again"
PROGRESS_SECONDS = 0.1
ENDING_SECONDS = 1.0  # upper limit of the time that a worker takes to end


class Engine:
    """Embeds the texts of many callers. Thread-safe; usable in a child forked while it is idle.

    `Sessions` describes the options of the graph, `Queue` describes `runs_at_once`.
    """

    def __init__(
        self,
        graph: Path,
        precision: Precision,
        threads: int,
        tokenize: TokenizeTexts,
        *,
        weights: mmap.mmap | None = None,
        max_tokens: int,
        cache_bytes: int = 0,
        max_waiting_tokens: int | None = None,
        convert: Convert | None = None,
        by_token: bool = False,
        runs_at_once: bool = False,
        kernels: Kernels | None = None,
    ) -> None:
        self.threads = threads
        self._tokenize_texts = tokenize
        self._max_tokens = max_tokens
        self._cache_bytes = cache_bytes
        self._max_waiting_tokens = max_waiting_tokens
        self._runs_at_once = runs_at_once
        self._sessions = Sessions(graph, precision, threads, weights, convert, kernels,
                                  plans_memory=not runs_at_once, by_token=by_token)  # fmt: skip
        self._broken = False
        self._closed = False
        self._reset()
        follow_forks(self)

    @property
    def dimension(self) -> int | None:
        """Components of a row of the output; None if the graph does not declare them."""
        return self._sessions.dimension

    def run(self, call: Call, progress: Progress | None = None) -> None:
        """Embed the texts of a call and wait for the vectors; raise the call's first error."""
        try:
            report = None if progress is None else increments(lambda: call.completed, progress)
            if self._begin(call, help_out=True):
                self._work(call, report)
            self.wait(call, report)
        except BaseException:  # interrupted
            self.cancel(call)
            raise

    def start(self, call: Call) -> None:
        """Start to embed the texts of a call on workers, without waiting."""
        self._begin(call, help_out=False)

    def wait(self, call: Call, report: Callable[[], None] | None = None) -> None:
        """Wait for a started call, with reports meanwhile; raise its first error."""
        while not call.done.wait(None if report is None else PROGRESS_SECONDS):
            if report is not None:
                report()
        if report is not None:
            report()
        call.raise_error()

    async def arun(self, call: Call) -> None:
        """Embed the texts of a call like `run`, without blocking the running asyncio loop."""
        import asyncio  # noqa: PLC0415  # slow to import, and already imported by async callers

        done = asyncio.get_running_loop().create_future()
        call.notify = partial(self._sleepers.add, done)
        try:
            self._begin(call, help_out=False)
            await done
        except BaseException:  # cancelled
            self.cancel(call)
            raise
        call.raise_error()

    def cancel(self, call: Call) -> None:
        """Drop the waiting texts of a call, and its results from batches that already run."""
        if self._deferred.do(
            partial(self._queue.remove, call, ClosedError("this call was cancelled"))
        ):
            self._sleepers.wake()

    @contextmanager
    def core(self) -> Iterator[None]:
        """Reserve a core for work in the caller's thread."""
        self._deferred.refuse_inside()
        with self._core_free:
            self._claims += 1
            try:
                self._core_free.wait_for(lambda: self._busy < self.threads)
            finally:
                self._claims -= 1
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._release()

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the texts that wait; estimated for those that are not tokenized."""
        return self._queue.waiting_tokens + self._queue.untokenized_tokens

    def stats(self) -> Stats:
        """Return the current counters."""
        with self._lock:
            queue = self._queue
            return Stats(
                texts=self._texts,
                tokens=self._tokens,
                batches=queue.batches,
                cache_hits=queue.cache_hits,
                coalesced=queue.coalesced,
                waiting_texts=queue.waiting_texts(),
                waiting_tokens=self.waiting_tokens,
                run_seconds=self._sessions.run_seconds,
            )

    @property
    def is_usable(self) -> bool:
        """Whether it takes calls: it has not been closed, nor copied by a fork during a run."""
        return not (self._broken or self._closed)

    def close(self) -> None:
        """End the threads. Calls with untokenized texts fail with ClosedError, others finish."""
        self._closed = True
        if self._deferred.do(self._close):
            self._sleepers.wake()

    def _close(self) -> None:
        self._sessions.close()
        for call in self._queue.untokenized_calls():
            self._queue.remove(call, ClosedError(CLOSED))
        self._end_if_closed()

    def prepare_to_fork(self) -> None:
        """Release the session for all cores, whose threads do not exist in a forked child.

        Waits for workers that have completed their last call and are about to end.
        """
        with self._lock:
            self._sessions.forks += 1
        self._sessions.prepare_to_fork()
        with self._core_free:
            self._core_free.wait_for(
                lambda: not self._busy or self._queue.calls(), timeout=ENDING_SECONDS
            )

    def continue_after_fork(self) -> None:
        """Allow the parent to load the session for all cores again."""
        with self._lock:  # the engine may have been created after `prepare_to_fork`
            self._sessions.forks = max(0, self._sessions.forks - 1)

    def restart_in_fork(self) -> None:
        """Reset the engine in a forked child, in which the parent's threads do not exist."""
        self._sessions.forks = 0
        self._broken = self._broken or self._busy > 0
        self._reset()

    def _reset(self) -> None:
        self._lock = RLock()
        self._workers = Workers(self.threads, self._lock)
        self._core_free = Condition(self._lock)
        self._sleepers = Sleepers(self._lock)
        self._queue = Queue(
            max_tokens=self._max_tokens,
            cache=VectorCache(self._cache_bytes) if self._cache_bytes else None,
            runs_at_once=self._runs_at_once,
            mixes=self._sessions.mixes,
            pauses=self._sessions.pauses,
        )
        self._deferred = Deferred(self._lock)
        self._busy = 0
        self._claims = 0  # number of callers that wait for a core
        self._texts = 0
        self._tokens = 0

    def _begin(self, call: Call, *, help_out: bool) -> bool:
        """Queue a call; return whether a core is reserved for the caller's thread."""
        self._deferred.refuse_inside()
        with self._lock:
            if self._broken:
                raise ForkedError(FORKED)
            if self._closed:
                raise ClosedError(CLOSED)
            self._refuse_overload(call)
            self._texts += len(call.vectors)
            self._queue.add(call)
            helps = help_out and self._busy + self._claims < self.threads and call in self._queue
            self._busy += helps
            self._start_workers(besides=helps)
            if self._busy >= self.threads and self._queue.has_urgent_work:
                self._sessions.pause_wanted.value = 1
        self._sleepers.wake()
        return helps

    def _refuse_overload(self, call: Call) -> None:
        most, waiting = self._max_waiting_tokens, self.waiting_tokens
        if most is None or not waiting:
            return
        if waiting + self._queue.expected_tokens(call.texts) > most:
            raise OverloadedError(
                f"about {waiting:,} tokens are waiting and max_waiting_tokens is {most:,}: call "
                "again later, or send the texts to another process"
            )

    def _work(self, mine: Call | None = None, report: Callable[[], None] | None = None) -> None:
        """Process work from the queue until there is none, or none for the call `mine`."""
        while (taken := self._take(mine)) is not None:
            work, cores = taken
            try:
                self._do(work, mine, cores)
            except BaseException as error:
                self._give_up(work, error, mine, cores)
                if mine is not None:
                    raise
            self._sleepers.wake()
            if cores > 1:
                with self._lock:
                    self._release(cores - 1)
            if report is not None:
                report()

    def _do(self, work: Tokenize | Batch, mine: Call | None, cores: int) -> None:
        """Do some work that holds `cores` cores, 0 in a pause of a batch."""
        if isinstance(work, Tokenize):
            self._tokenize(work)
            return
        in_pauses = partial(self._use_pause, mine) if cores == 1 else None
        run = partial(self._sessions.run, on_all_cores=cores > 1, in_pauses=in_pauses)
        outcomes = run_batch(work, run)
        with self._lock:
            for batch, outcome in outcomes:
                if isinstance(outcome, EmbedrtError):
                    self._queue.fail(batch, outcome)
                else:
                    self._queue.finish(batch, outcome)

    def _give_up(
        self, work: Tokenize | Batch, error: BaseException, mine: Call | None, cores: int
    ) -> None:
        """End the calls of failed work; queue it again if the caller's thread was interrupted.

        An exception such as KeyboardInterrupt must not fail the calls of others.
        """
        with self._lock:
            if mine is None:
                self._queue.fail(work, error)
            else:
                self._queue.requeue(work)
                self._release(cores)

    def _use_pause(self, mine: Call | None) -> None:
        """Run one batch of the texts for which another batch pauses."""
        while (work := self._take_urgent()) is not None:
            try:
                self._do(work, mine, 0)
            except BaseException as error:
                self._give_up(work, error, mine, 0)
                if mine is not None:
                    raise
            self._sleepers.wake()
            if isinstance(work, Batch):
                return

    def _take_urgent(self) -> Tokenize | Batch | None:
        with self._lock:
            work = None
            try:
                work = self._queue.take_urgent()
                self._sessions.pause_wanted.value = self._queue.has_urgent_work
                if isinstance(work, Batch):
                    self._tokens += work.tokens
            except BaseException:  # an interrupt: the texts of others must not be lost
                if work is not None:
                    self._queue.requeue(work)
                raise
            return work

    def _take(self, mine: Call | None) -> tuple[Tokenize | Batch, int] | None:
        """Return work and its number of cores; without work, release the core."""
        with self._lock:
            work, busy = None, self._busy
            try:
                self._deferred.do_waiting()
                if not self._claims and (mine is None or self._queue.has_work(mine)):
                    work = self._queue.take(self.threads)
                if work is None:
                    self._release()
                    return None
                cores = self._assign(work)
                self._start_workers()
            except BaseException:  # an interrupt: the texts of others must not be lost
                if work is not None:
                    self._queue.requeue(work)
                self._busy = busy
                self._release()
                raise
            return work, cores

    def _assign(self, work: Tokenize | Batch) -> int:
        """Return how many cores some work holds. Needs the lock."""
        if isinstance(work, Tokenize):
            return 1
        tokens = work.tokens
        self._tokens += tokens
        is_single = self._busy == 1 and self._queue.is_alone(work)
        if is_single and self._sessions.choose(tokens, self._workers.submit):
            self._busy = self.threads
            return self.threads
        return 1

    def _tokenize(self, work: Tokenize) -> None:
        outcomes = [
            run_at_once(self._sessions.run, call, ids) if self._runs_at_once else ids
            for (call, _), ids in zip(
                work.slices, tokenize_slices(work, self._tokenize_texts), strict=True
            )
        ]
        with self._lock:
            for (call, part), outcome in zip(work.slices, outcomes, strict=True):
                if isinstance(outcome, TextError):
                    self._queue.remove(call, outcome)
                elif isinstance(outcome, Ran):
                    self._tokens += outcome.tokens
                    self._queue.put_vectors(call, part, outcome)
                else:
                    self._queue.put(call, part, outcome)

    def _release(self, cores: int = 1) -> None:
        """Release cores for waiting callers or workers. The caller must hold the lock."""
        self._busy -= cores
        self._core_free.notify(cores)
        self._start_workers()
        self._end_if_closed()

    def _start_workers(self, *, besides: int = 0) -> None:
        """Start a worker on each free core for which there is work; the caller holds the lock."""
        free = self.threads - self._busy - self._claims
        if free <= 0:
            return
        for _ in range(min(free, self._queue.useful_workers() - besides)):
            if not self._workers.start(self._work):
                # Whoever holds a core goes on, and tries again at its end.
                for call in () if self._busy else self._queue.calls():
                    self._queue.remove(call, EmbedrtError(NO_THREAD))
                return
            self._busy += 1

    def _end_if_closed(self) -> None:
        if self._closed and not self._queue.calls():
            self._workers.end()
