"""Ends requests whose client disconnects, or that are not answered in time.

Most requests are answered within a tick, and need no timer and no task of their own. These would
add to the cost of every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive

from embedrt.serve.errors import RequestError
from embedrt.serve.wire import ClientGoneError

Answer = TypeVar("Answer")

TICK = 0.05  # seconds


@dataclass(slots=True, eq=False)
class Pending:
    """A request that is being answered."""

    receive: Receive
    since: float
    """In the loop's time."""
    watcher: asyncio.Task[None] | None = None
    """Started at the request's first or second tick."""
    ended_by: RequestError | ClientGoneError | None = None


class Watch:
    """The requests of one event loop that are being answered."""

    def __init__(self, timeout: float, retry_after: Callable[[], int]) -> None:
        self._timeout = timeout
        self._retry_after = retry_after
        self._tick = min(TICK, timeout)
        self._pending: dict[asyncio.Task[Any], Pending] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def over(self, receive: Receive, answering: Awaitable[Answer]) -> Answer:
        """Return the answer, or cancel `answering`.

        Raises ClientGoneError, or RequestError after the timeout and at the end of the server's
        grace.
        """
        answerer, loop = _current_task(), asyncio.get_running_loop()
        pending = self._pending[answerer] = Pending(receive, loop.time())
        if self._timer is None:
            self._timer = loop.call_later(self._tick, self._start_watchers)
        try:
            return await answering
        except asyncio.CancelledError:
            message = "the server has ended before the answer"
            raise pending.ended_by or RequestError("unhealthy", message) from None
        finally:
            self._forget(answerer)

    def lateness(self) -> RequestError | None:
        """Return the error of the current request if the timeout has cancelled it."""
        pending = self._pending.get(_current_task())
        error = None if pending is None else pending.ended_by
        return error if isinstance(error, RequestError) else None

    def _forget(self, answerer: asyncio.Task[Any]) -> None:
        if answerer.cancelling():
            answerer.uncancel()
        watcher = self._pending.pop(answerer).watcher
        if watcher is not None:
            watcher.cancel()
        if not self._pending and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_watchers(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._tick
        for answerer, pending in self._pending.items():
            if pending.since > latest:  # and so are those that follow
                break
            if pending.watcher is None:
                pending.watcher = loop.create_task(self._watch(answerer, pending))
        self._timer = loop.call_later(self._tick, self._start_watchers)

    async def _watch(self, answerer: asyncio.Task[Any], pending: Pending) -> None:
        try:
            async with asyncio.timeout_at(pending.since + self._timeout):
                while (await pending.receive())["type"] != "http.disconnect":
                    pass
            pending.ended_by = ClientGoneError()
        except TimeoutError:
            message = f"no answer within {self._timeout:g} s, the server's --timeout"
            wait = self._retry_after()
            pending.ended_by = RequestError("timeout", message, retry_after=wait)
        answerer.cancel()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
