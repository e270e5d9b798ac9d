"""Windows of texts, started one ahead of the one that is waited for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedrt.engine.scheduler import WINDOW, Window, chunks, one_ahead


def pending_window() -> Window:
    return Window(np.zeros((1, 1), np.float32), [Future(), Future()])


class Source:
    """Windows that have not begun to run, and how many were asked for."""

    def __init__(self, count: int, *, fails_after: int | None = None) -> None:
        self.windows = [pending_window() for _ in range(count)]
        self.started = 0
        self.fails_after = fails_after

    def __iter__(self) -> Iterator[Window]:
        for window in self.windows:
            if self.started == self.fails_after:
                raise LookupError("source failed")
            self.started += 1
            yield window

    def cancelled(self) -> list[bool]:
        return [all(run.cancelled() for run in window.runs) for window in self.windows]


@given(st.lists(st.text(max_size=2), max_size=20), st.integers(1, 7))
def test_chunks_concatenate_to_the_texts(texts: list[str], size: int) -> None:
    cut = list(chunks(texts, size))
    assert list(itertools.chain(*cut)) == texts
    assert all(len(chunk) == size for chunk in cut[:-1])
    assert all(1 <= len(chunk) <= size for chunk in cut)


def test_chunks_take_only_what_they_need() -> None:
    endless = (str(number) for number in itertools.count())
    assert len(next(chunks(endless))) == WINDOW
    assert next(endless) == str(WINDOW)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_every_window_once_in_order(count: int) -> None:
    source = Source(count)
    yielded = list(one_ahead(iter(source)))
    assert [id(window) for window in yielded] == [id(window) for window in source.windows]


def test_one_window_is_started_ahead_and_no_more() -> None:
    source = Source(5)
    started = [source.started for _ in one_ahead(iter(source))]
    assert started == [2, 3, 4, 5, 5]


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_a_consumer_that_stops_cancels_what_was_started(taken: int) -> None:
    source = Source(5)
    ahead = one_ahead(iter(source))
    for _ in range(taken):
        next(ahead)
    assert not any(source.cancelled())
    ahead.close()  # type: ignore[attr-defined]
    assert source.started == taken + 1
    assert source.cancelled() == [taken - 1 <= index <= taken for index in range(5)]


def test_a_failing_source_cancels_what_was_started() -> None:
    source = Source(5, fails_after=3)
    ahead = one_ahead(iter(source))
    next(ahead)
    next(ahead)
    with pytest.raises(LookupError):
        next(ahead)
    assert source.cancelled() == [False, False, True, False, False]


def test_results_raise_the_first_failure() -> None:
    window = pending_window()
    window.runs[0].set_result(3)
    window.runs[1].set_exception(ArithmeticError("failed"))
    results = window.results()
    assert next(results) == 3
    with pytest.raises(ArithmeticError, match="failed"):
        next(results)
