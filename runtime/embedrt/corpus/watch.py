"""Progress of a corpus: a bar on a terminal, or one line per minute in a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)
LINE_SECONDS = 60.0

Advance = Callable[[int, int], object]
"""Called with the numbers of rows and tokens of a finished part."""


@contextmanager
def watching(total: int, done: int, *, bar: bool) -> Iterator[Advance]:
    """Yield a function that shows progress towards `total` rows, starting from `done` rows."""
    watch = _Watch(total, done)
    if not bar:
        yield watch.log
        return
    from tqdm import tqdm  # noqa: PLC0415 - not needed without a bar

    with tqdm(total=total, initial=done, unit=" row", unit_scale=True, dynamic_ncols=True) as shown:

        def advance(rows: int, tokens: int) -> None:
            watch.add(rows, tokens)
            shown.set_postfix_str(f"{watch.tokens_per_second:,.0f} tokens/s", refresh=False)
            shown.update(rows)

        yield advance


class _Watch:
    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._done = done
        self._rows = 0
        self._tokens = 0
        self._start = self._spoke = time.monotonic()

    def add(self, rows: int, tokens: int) -> None:
        self._rows += rows
        self._tokens += tokens

    @property
    def seconds(self) -> float:
        return max(time.monotonic() - self._start, 1e-9)

    @property
    def tokens_per_second(self) -> float:
        return self._tokens / self.seconds

    def log(self, rows: int, tokens: int) -> None:
        self.add(rows, tokens)
        if time.monotonic() - self._spoke >= LINE_SECONDS:
            self._spoke = time.monotonic()
            LOG.info("%s", self)

    def __str__(self) -> str:
        rate = self._rows / self.seconds
        left = (self._total - self._done - self._rows) / rate if rate else float("inf")
        return (
            f"{self._done + self._rows:,} of {self._total:,} rows, {rate:,.0f} rows/s, "
            f"{self.tokens_per_second:,.0f} tokens/s, {spell_seconds(left)} left"
        )


def spell_seconds(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
