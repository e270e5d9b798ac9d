"""Tests of the decision to refuse a request, by what waits and what has run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from embedrt.engine.stats import Stats
from embedrt.loaded import LoadedBundle, LoadOptions
from embedrt.serve.admission import Admission, Held
from embedrt.serve.errors import RequestError


@dataclass
class Queue:
    """The figures of a bundle that runs 50 tokens a second on each of two threads."""

    limit: int | None
    waiting_tokens: int = 0
    options: LoadOptions = field(init=False)

    def __post_init__(self) -> None:
        self.options = LoadOptions(threads=2, max_waiting_tokens=self.limit)

    def stats(self) -> Stats:
        names = ("texts", "batches", "cache_hits", "coalesced", "waiting_texts")
        none: dict[str, Any] = dict.fromkeys(names, 0)
        return Stats(tokens=100, run_seconds=2, waiting_tokens=self.waiting_tokens, **none)


def admission(limit: int | None, waiting: int, max_body_bytes: int = 1000) -> Admission:
    loaded: Any = Queue(limit, waiting)
    return Admission(cast("LoadedBundle", loaded), max_body_bytes)


@pytest.mark.parametrize(
    ("limit", "waiting", "full"),
    [(6400, 6300, False), (6400, 6301, True), (6, 5, False), (6, 6, True), (1, 0, False)],
)
def test_a_queue_is_full_when_few_texts_would_fit(limit: int, waiting: int, full: bool) -> None:
    assert admission(limit, waiting).is_full() == full


def test_a_queue_without_limit_is_never_full() -> None:
    assert not admission(None, 10**9).is_full()


def test_the_wait_is_that_of_the_queue() -> None:
    assert admission(None, 450).retry_after() == 5
    assert admission(None, 0).retry_after() == 1
    assert admission(None, 10**6).retry_after() == 120


def test_bodies_are_held_until_their_requests_are_answered() -> None:
    admitted = admission(None, 0, max_body_bytes=100_000)
    with Held(admitted) as first:
        first.add(350_000)
        with Held(admitted) as small:
            small.add(65_536)  # which large ones cannot shut out
            with Held(admitted) as second, pytest.raises(RequestError, match="415,536 bytes"):
                second.add(65_537)
        assert admitted.bytes_held == 350_000
    assert admitted.bytes_held == 0
