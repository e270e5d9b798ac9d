"""Texts that are embedded together, while the next ones are being tokenized."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
