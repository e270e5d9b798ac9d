"""Admission of requests: limits on the bytes of bodies, and on the tokens in the queue.

The engine refuses texts beyond its limit of waiting tokens. While its queue is full, a request is
refused before its body is read. If the queue is empty, one request of any size is admitted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from time import monotonic

from embedrt.engine.stats import Stats
from embedrt.loaded import LoadedBundle
from embedrt.serve.errors import RequestError

BODIES_HELD = 4  # bodies of the largest size that are held at once
SMALL_BODY = 1 << 16  # bytes that each request may hold, so that large ones cannot shut out others
WINDOW = 10.0  # seconds over which the rate is measured
LONGEST_WAIT = 120  # seconds; clients of OpenAI ignore a longer Retry-After


class Rate:
    """The rate of a busy engine, in tokens per second."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._samples: deque[tuple[float, int, float]] = deque([(monotonic(), 0, 0.0)])

    def tokens_per_second(self, stats: Stats) -> float:
        """Return the rate over the last seconds, or over all time if nothing has run in them."""
        now = monotonic()
        while len(self._samples) > 1 and now - self._samples[1][0] > WINDOW:
            self._samples.popleft()
        _, tokens, seconds = self._samples[0]
        if now - self._samples[-1][0] > 1:
            self._samples.append((now, stats.tokens, stats.run_seconds))
        if stats.run_seconds <= seconds:
            tokens, seconds = 0, 0.0
        return self._threads * (stats.tokens - tokens) / max(stats.run_seconds - seconds, 1e-9)


class Admission:
    """Counts the bytes of the bodies in memory, and refuses requests while the queue is full."""

    def __init__(self, loaded: LoadedBundle, max_body_bytes: int) -> None:
        self._loaded = loaded
        self._max_waiting_tokens = loaded.options.max_waiting_tokens
        self._max_bytes = BODIES_HELD * max_body_bytes
        self._rate = Rate(loaded.options.threads or 1)
        self.bytes_held = 0

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts bytes as they arrive, until the request is answered.

        Raises RequestError while the queue is full. The function raises it if the bodies of all
        requests exceed the limit.
        """
        if self.is_full():
            raise self.refusal("the queue is full")
        mine = 0

        def add(size: int) -> None:
            nonlocal mine
            total = self.bytes_held + size
            if mine + size > SMALL_BODY and total > self._max_bytes and self.bytes_held > mine:
                raise self.refusal(f"requests of {self.bytes_held:,} bytes are being answered")
            mine += size
            self.bytes_held += size

        try:
            yield add
        finally:
            self.bytes_held -= mine

    def is_full(self) -> bool:
        """Whether the engine would refuse any text."""
        most = self._max_waiting_tokens
        return most is not None and self._loaded.waiting_tokens >= most

    def refusal(self, why: str) -> RequestError:
        """Return the refusal of a request that can be sent again."""
        seconds = self.retry_after()
        return RequestError(
            "overloaded", f"{why}; send this again in {seconds} s", retry_after=seconds
        )

    def retry_after(self) -> int:
        """Return the seconds until the engine has run the current queue, at least 1."""
        stats = self._loaded.stats()
        rate = self._rate.tokens_per_second(stats)
        seconds = stats.waiting_tokens / rate if rate else LONGEST_WAIT
        return min(max(1, ceil(seconds)), LONGEST_WAIT)
