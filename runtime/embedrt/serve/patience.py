"""How long an answer is awaited: until the deadline, and while the client is connected.

A task that watches the client costs as much as the rest of the application. Most requests are
answered before it would begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Literal

from starlette.types import Receive

from embedrt.serve.errors import RequestError
from embedrt.serve.wire import ClientGoneError, Reply

UNWATCHED_SECONDS = 0.05


class LateError(Exception):
    """The deadline has passed before the answer."""


async def patiently(answering: Awaitable[Reply], receive: Receive, seconds: float) -> Reply:
    """Return the reply, unless it takes more than `seconds`, or the client goes away.

    `answering` is cancelled then, and LateError or ClientGoneError raised; RequestError when the
    server's grace ends.
    """
    loop = asyncio.get_running_loop()
    answerer = asyncio.current_task()
    assert answerer is not None
    ended: Literal["", "gone", "late"] = ""
    watcher: asyncio.Task[None] | None = None
    deadline = loop.time() + seconds

    async def watch() -> None:
        nonlocal ended
        try:
            async with asyncio.timeout_at(deadline):
                while (await receive())["type"] != "http.disconnect":
                    pass
            ended = "gone"
        except TimeoutError:
            ended = "late"
        answerer.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(min(seconds, UNWATCHED_SECONDS), begin)
    try:
        return await answering
    except asyncio.CancelledError:
        answerer.uncancel()
        if ended == "gone":
            raise ClientGoneError from None
        if ended == "late":
            raise LateError from None
        raise RequestError("unhealthy", "the server has ended before the answer") from None
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
