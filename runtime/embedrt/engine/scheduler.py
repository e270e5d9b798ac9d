"""The threads that tokenize and run what the queue says, for all callers at once.

`threads` bounds the cores in use, whoever calls from where. A caller who finds a core free works in
its own thread: a lone text is never handed over. Other callers wait, and workers, which start when
there is work and end when there is none, take their texts together.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Condition, Lock
from weakref import WeakSet

from embedrt.bundle.manifest import Precision
from embedrt.engine.batching import Batch, Queue, Tokenize
from embedrt.engine.cache import VectorCache
from embedrt.engine.call import Call, TokenIds
from embedrt.engine.session import Session
from embedrt.engine.sessions import Sessions
from embedrt.errors import ClosedError, EmbedrtError, ForkedError, OverloadedError, TextError

TokenizeTexts = Callable[[Sequence[str]], list[TokenIds]]
"""Raises TextError with the place among the texts of the first that cannot be tokenized."""
Progress = Callable[[int], object]
"""Is told how many more texts have their vectors."""

PROGRESS_SECONDS = 0.1
ENDING_SECONDS = 1.0  # more than a worker takes to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What an engine has done since it was loaded, and what waits now."""

    texts: int
    """Texts that callers asked for."""
    tokens: int
    """Tokens that were run."""
    batches: int
    cache_hits: int
    """Texts whose vector came from the cache."""
    coalesced: int
    """Texts that were equal to one that was waiting, running or in the same call."""
    waiting_texts: int
    waiting_tokens: int
    """Of texts that are not tokenized yet, an estimate."""


class Engine:
    """Embeds the texts of many callers. Safe to use from many threads, and in a fork while idle."""

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
    ) -> None:
        self.threads = threads
        self._tokenize_texts = tokenize
        self._max_tokens = max_tokens
        self._cache_bytes = cache_bytes
        self._max_waiting_tokens = max_waiting_tokens
        self._sessions = Sessions(graph, precision, threads, weights)
        self._broken = ""
        self._closed = False
        self._start_anew()
        _ENGINES.add(self)

    @property
    def dimension(self) -> int | None:
        """Components of an embedding, where the graph tells."""
        return self._sessions.dimension

    def run(self, call: Call, progress: Progress | None = None) -> None:
        """Embed a call's texts; return when its vectors are complete, or raise its first error."""
        try:
            if self._begin(call, help_out=True):
                self._work(call, progress)
            self._await(call, progress)
        except BaseException:  # interrupted
            self.cancel(call)
            raise

    def start(self, call: Call) -> None:
        """Have workers embed a call's texts; `wait` for it, or `cancel` it."""
        self._begin(call, help_out=False)

    def wait(self, call: Call) -> None:
        """Wait for a call that was started; raise its first error."""
        self._await(call, None)

    async def arun(self, call: Call) -> None:
        """Embed a call's texts like `run` while an asyncio loop goes on."""
        import asyncio  # noqa: PLC0415  # slow to import, and whoever awaits this has it

        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(done.set)

        call.notify = notify
        try:
            self._begin(call, help_out=False)
            await done.wait()
        except BaseException:  # cancelled
            self.cancel(call)
            raise
        call.raise_error()

    def cancel(self, call: Call) -> None:
        """Drop what waits of a call. What runs is finished, and nobody waits for it."""
        with self._lock:
            self._queue.remove(call, ClosedError("this call was cancelled"))

    @contextmanager
    def core(self) -> Iterator[None]:
        """Hold one of the cores for work of the caller's own."""
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

    def stats(self) -> Stats:
        """Return the counts of this moment."""
        with self._lock:
            queue = self._queue
            return Stats(
                texts=self._texts,
                tokens=self._tokens,
                batches=queue.batches,
                cache_hits=queue.cache_hits,
                coalesced=queue.coalesced,
                waiting_texts=queue.waiting_texts(),
                waiting_tokens=queue.waiting_tokens + queue.untokenized_tokens,
            )

    def check_usable(self) -> None:
        """Raise ClosedError after `close`, ForkedError in a process that was forked off a run."""
        if self._broken:
            raise ForkedError(self._broken)
        if self._closed:
            raise _closed()

    def close(self) -> None:
        """Let the threads end. Tokenized texts are finished; calls with others get ClosedError."""
        with self._lock:
            self._closed = True
            self._sessions.close()
            for call in self._queue.untokenized_calls():
                self._queue.remove(call, _closed())
            self._end_if_closed()

    def prepare_to_fork(self) -> None:
        """Give up the session for all cores: a child could neither use nor end its threads.

        Waits for workers that have given their last call its vectors and are about to end.
        """
        self._sessions.prepare_to_fork()
        with self._core_free:
            self._core_free.wait_for(
                lambda: not self._busy or self._queue.calls(), timeout=ENDING_SECONDS
            )

    def restart_in_fork(self) -> None:
        """Go on in a forked child, where of the parent's threads none is left."""
        if self._busy:
            self._broken = (
                "this process was forked while an Embedder of its parent was running, and may "
                "hang on its locks; fork before encoding, or load the bundle after the fork"
            )
        self._start_anew()

    def _start_anew(self) -> None:
        # Starts no thread before its first work.
        self._workers = ThreadPoolExecutor(self.threads, "embedrt")
        self._lock = Lock()
        self._core_free = Condition(self._lock)
        cache = VectorCache(self._cache_bytes) if self._cache_bytes else None
        self._queue = Queue(max_tokens=self._max_tokens, cache=cache)
        self._busy = 0
        self._claims = 0  # of callers who wait for a core
        self._texts = 0
        self._tokens = 0

    def _begin(self, call: Call, *, help_out: bool) -> bool:
        """Queue a call; return whether its caller holds a core to work for it."""
        with self._lock:
            self.check_usable()
            self._refuse_overload(call)
            self._texts += len(call.vectors)
            self._queue.add(call)
            helps = help_out and self._busy + self._claims < self.threads and call in self._queue
            self._busy += helps
            self._start_workers(besides=helps)
            return helps

    def _refuse_overload(self, call: Call) -> None:
        queue, most = self._queue, self._max_waiting_tokens
        if most is None:
            return
        waiting = queue.waiting_tokens + queue.untokenized_tokens
        if waiting and waiting + queue.expected_tokens(call.texts) > most:
            raise OverloadedError(
                f"about {waiting:,} tokens wait and {most:,} may (max_waiting_tokens): call again "
                "later, or send the texts to another process"
            )

    def _await(self, call: Call, progress: Progress | None) -> None:
        told = len(call.texts) - call.left
        while not call.done.wait(None if progress is None else PROGRESS_SECONDS):
            if progress is not None:
                now = len(call.texts) - call.left
                progress(now - told)
                told = now
        if progress is not None:
            progress(len(call.texts) - told)
        call.raise_error()

    def _work(self, mine: Call | None = None, progress: Progress | None = None) -> None:
        """Take work and do it, until there is none; with `mine`, while that call has some."""
        told = 0
        while (taken := self._take(mine)) is not None:
            work, session, cores = taken
            try:
                if isinstance(work, Tokenize):
                    self._tokenize(work)
                else:
                    self._run(work, session)
            except BaseException as error:
                with self._lock:
                    # What interrupts a caller says nothing about the texts of others.
                    if mine is None:
                        self._queue.fail(work, error)
                    else:
                        self._queue.give_back(work)
                        self._release(cores)
                if mine is not None:
                    raise
            if cores > 1:
                with self._lock:
                    self._release(cores - 1)
            if mine is not None and progress is not None:
                progress(len(mine.texts) - mine.left - told)
                told = len(mine.texts) - mine.left

    def _take(self, mine: Call | None) -> tuple[Tokenize | Batch, Session, int] | None:
        """Return work, its session and the cores it holds; with none left, release the core."""
        with self._lock:
            work = None
            try:
                if not self._claims and (mine is None or self._queue.has_work(mine)):
                    work = self._queue.take(self.threads)
                if work is None:
                    self._release()
                    return None
                session, cores = self._assign(work)
                self._start_workers()
            except BaseException:  # an interrupt: the texts of others must not be lost
                if work is not None:
                    self._queue.give_back(work)
                    self._release()
                raise
            return work, session, cores

    def _assign(self, work: Tokenize | Batch) -> tuple[Session, int]:
        """Return the session for some work and how many cores it holds. Needs the lock."""
        one_core = self._sessions.one_core
        if isinstance(work, Tokenize):
            return one_core, 1
        tokens = sum(len(job.ids) for job in work.jobs)
        self._tokens += tokens
        if self._busy > 1 or not self._queue.is_alone(work):
            return one_core, 1
        session = self._sessions.choose(tokens, self._workers.submit)
        if session is not one_core:
            self._busy = self.threads
        return session, self._busy

    def _tokenize(self, work: Tokenize) -> None:
        parts = [call.texts[call.tokenized : call.tokenized + count] for call, count in work.slices]
        try:
            ids = iter(self._tokenize_texts(list(chain.from_iterable(parts))))
            outcomes: list[list[TokenIds] | TextError] = [
                list(islice(ids, len(part))) for part in parts
            ]
        except TextError:  # of one call, which it must be told of alone
            outcomes = [self._try_tokenize(part) for part in parts]
        checked = [
            self._check(call, part, outcome)
            for (call, _), part, outcome in zip(work.slices, parts, outcomes, strict=True)
        ]
        with self._lock:
            for (call, _), outcome in zip(work.slices, checked, strict=True):
                if isinstance(outcome, TextError):
                    self._queue.remove(call, outcome)
                else:
                    self._queue.put(call, outcome)

    def _try_tokenize(self, texts: Sequence[str]) -> list[TokenIds] | TextError:
        try:
            return self._tokenize_texts(texts)
        except TextError as error:
            return error

    def _check(
        self, call: Call, texts: Sequence[str], outcome: list[TokenIds] | TextError
    ) -> list[TokenIds] | TextError:
        """Have the call look at its texts; name the text that an error is about."""
        try:
            if isinstance(outcome, TextError):
                raise outcome
            if call.check is not None:
                call.check(texts, outcome)
        except TextError as error:
            return call.name_text(error)
        return outcome

    def _run(self, batch: Batch, session: Session) -> None:
        try:
            embeddings = self._sessions.run(session, batch.input_ids)
        except EmbedrtError as error:
            if len(batch.jobs) > 1:  # one text fails its own call, and nobody else's
                for job in batch.jobs:
                    self._run(Batch((job,)), session)
                return
            with self._lock:
                self._queue.fail(batch, error)
            return
        with self._lock:
            self._queue.finish(batch, embeddings)

    def _release(self, cores: int = 1) -> None:
        """Give up cores, to whoever claims one or to workers. Needs the lock."""
        self._busy -= cores
        self._core_free.notify(cores)
        self._start_workers()
        self._end_if_closed()

    def _start_workers(self, *, besides: int = 0) -> None:
        """Start a worker for each free core that has work. Needs the lock."""
        free = self.threads - self._busy - self._claims
        if free <= 0:
            return
        for _ in range(min(free, self._queue.useful_workers() - besides)):
            try:
                self._workers.submit(self._work)
            except RuntimeError:  # the interpreter is ending
                for call in self._queue.calls():
                    self._queue.remove(call, _closed())
                return
            self._busy += 1

    def _end_if_closed(self) -> None:
        if self._closed and not self._queue.calls():
            self._workers.shutdown(wait=False)


def _closed() -> ClosedError:
    return ClosedError("this Embedder has been closed; load the bundle again")


_ENGINES: WeakSet[Engine] = WeakSet()


def _prepare_all_to_fork() -> None:
    for engine in list(_ENGINES):
        engine.prepare_to_fork()


def _restart_all_in_fork() -> None:
    for engine in list(_ENGINES):
        engine.restart_in_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_all_to_fork, after_in_child=_restart_all_in_fork)
