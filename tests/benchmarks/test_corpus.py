"""Tests of the rate and the start that the benchmark of corpora computes."""

from __future__ import annotations

import math

import pytest

from benchmarks.corpus import Point, Timed


def timed(workers: int, *points: tuple[int, float]) -> Timed:
    return Timed(None, workers, [Point(rows, seconds, 0.0) for rows, seconds in points])


def test_the_start_is_told_from_the_rate() -> None:
    """Two workers that start after 5 s, and make parts of 100 rows in 2 s each."""
    run = timed(2, (100, 7), (200, 7), (300, 9), (400, 9), (500, 11), (600, 11))
    taken = run.taken()
    assert taken.seconds == 11
    assert taken.steady == pytest.approx(100)
    assert taken.start == pytest.approx(5)


def test_a_run_of_too_few_parts_has_no_rate() -> None:
    taken = timed(2, (100, 7), (200, 7)).taken()
    assert taken.seconds == 7
    assert math.isnan(taken.steady)
    assert math.isnan(taken.start)
