"""Admission of requests: limits on the bytes of bodies, and on the tokens in the queue.

The engine refuses texts beyond its limit of waiting tokens. While its queue is almost full, a
request is refused before its body is read, which takes less time than a refusal by the engine. If
the queue is empty, one request of any size is admitted.
"""

from __future__ import annotations

from collections import deque
from math import ceil
from time import monotonic
from typing import Self

from embedrt.loaded import LoadedBundle
from embedrt.serve.errors import RequestError

BODIES_HELD = 4  # bodies of the largest size that are held at once
SMALL_BODY = 1 << 16  # bytes that each request may hold, so that large ones cannot shut out others
FULL = 63 / 64  # of the limit of waiting tokens: what is left has room for a few short texts
WINDOW = 10.0  # seconds over which the rate is measured
LONGEST_WAIT = 120  # seconds; clients of OpenAI ignore a longer Retry-After


class Rate:
    """The rate of a busy engine, in tokens per second."""

    def __init__(self, loaded: LoadedBundle) -> None:
        self._loaded = loaded
        self._threads = loaded.options.threads or 1
        self._samples: deque[tuple[float, int, float]] = deque([(monotonic(), 0, 0.0)])
        self._rate = 0.0

    def tokens_per_second(self) -> float:
        """Return the rate over the last seconds, or over all time if nothing has run in them.

        It is measured once a second, because refusals ask for it thousands of times in a second.
        """
        now = monotonic()
        if not self._rate or now - self._samples[-1][0] > 1:
            self._rate = self._measure(now)
        return self._rate

    def _measure(self, now: float) -> float:
        stats = self._loaded.stats()
        while len(self._samples) > 1 and now - self._samples[1][0] > WINDOW:
            self._samples.popleft()
        _, tokens, seconds = self._samples[0]
        if now - self._samples[-1][0] > 1:
            self._samples.append((now, stats.tokens, stats.run_seconds))
        if stats.run_seconds <= seconds:
            tokens, seconds = 0, 0.0
        return self._threads * (stats.tokens - tokens) / max(stats.run_seconds - seconds, 1e-9)


class Held:
    """The bytes of one body, which are held until its request is answered."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._size = 0

    def add(self, size: int) -> None:
        """Count bytes as they arrive; raise RequestError if all bodies exceed the limit."""
        admission, mine = self._admission, self._size
        held = admission.bytes_held
        too_many = held + size > admission.max_bytes_held
        if mine + size > SMALL_BODY and too_many and held > mine:
            raise admission.refusal(f"requests of {held:,} bytes are being answered")
        self._size += size
        admission.bytes_held += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.bytes_held -= self._size


class Admission:
    """Counts the bytes of the bodies in memory, and refuses requests while the queue is full."""

    def __init__(self, loaded: LoadedBundle, max_body_bytes: int) -> None:
        self._loaded = loaded
        self._max_waiting_tokens = loaded.options.max_waiting_tokens
        self.max_bytes_held = BODIES_HELD * max_body_bytes
        self._rate = Rate(loaded)
        self.bytes_held = 0

    def is_full(self) -> bool:
        """Whether the engine would refuse most texts."""
        most = self._max_waiting_tokens
        return most is not None and self._loaded.waiting_tokens > FULL * most

    def refusal(self, why: str) -> RequestError:
        """Return the refusal of a request that can be sent again."""
        return overloaded(why, self.retry_after())

    def retry_after(self) -> int:
        """Return the seconds until the engine has run the current queue, at least 1."""
        rate = self._rate.tokens_per_second()
        seconds = self._loaded.waiting_tokens / rate if rate else LONGEST_WAIT
        return min(max(1, ceil(seconds)), LONGEST_WAIT)


def overloaded(why: str, seconds: int) -> RequestError:
    """Return the refusal of a request that can be sent again in some seconds."""
    return RequestError("overloaded", f"{why}; send this again in {seconds} s", retry_after=seconds)
