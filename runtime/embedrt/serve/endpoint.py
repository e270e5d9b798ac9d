"""One request from its head to its answer: admitted, read, answered, counted, logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import cache
from time import perf_counter

from starlette.types import Receive, Scope, Send

from embedrt.serve.admission import overloaded
from embedrt.serve.errors import RequestError
from embedrt.serve.kinds import refuse_other_task
from embedrt.serve.operation import Operation
from embedrt.serve.service import Service, failure
from embedrt.serve.wire import (
    ClientGoneError,
    Incoming,
    Reply,
    new_request_id,
    read_body,
    read_fields,
    send_reply,
)

logger = logging.getLogger("embedrt.serve")

CLIENT_GONE = 499  # in metrics and logs, as nginx counts it
UNWATCHED_SECONDS = 0.05  # most requests are answered before, and need no task that watches
COUNTED = {CLIENT_GONE, 429}  # an overload would fill the log with lines that the metrics count


class Endpoint:
    """The ASGI application of one operation."""

    def __init__(self, operation: Operation, service: Service) -> None:
        self.operation = operation
        self._service = service
        self._queue_full = cache(self._refusal_for)  # an overload takes the same one very often

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        start = perf_counter()
        request_id = new_request_id()
        try:
            reply = await self._answer(scope, receive)
        except RequestError as error:
            reply = self.operation.dialect.reply(error)
        except ClientGoneError:
            self._note(CLIENT_GONE, start, request_id)
            return
        except Exception as error:  # noqa: BLE001 - every request is answered
            reply = self.operation.dialect.reply(failure(error))
        await send_reply(send, reply, request_id)
        self._note(reply.status, start, request_id)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        operation, service = self.operation, self._service
        path = scope.get("path_params", {})
        refuse_other_task(service.manifest.task, operation.task, service.name)
        if operation.method == "GET":
            return await operation.answer(service, Incoming(path=path))
        if service.admission.is_full():
            return self._queue_full(service.admission.retry_after())
        with service.admission.hold() as count:
            body = await read_body(scope, receive, service.options.max_body_bytes, count)
            incoming = Incoming(read_fields(body), path)
            return await while_connected(receive, operation.answer(service, incoming))

    def _refusal_for(self, seconds: int) -> Reply:
        return self.operation.dialect.reply(overloaded("the queue is full", seconds))

    def _note(self, status: int, start: float, request_id: bytes) -> None:
        seconds = perf_counter() - start
        operation = self.operation
        embeds = operation.method == "POST"
        self._service.metrics.note(operation.path, status, seconds, embeds=embeds)
        level = logging.DEBUG if status < 400 or status in COUNTED else logging.INFO
        if logger.isEnabledFor(level):
            method, name = operation.method, request_id.decode()
            milliseconds = seconds * 1e3
            logger.log(
                level, "%s %s %d %.1f ms %s", method, operation.path, status, milliseconds, name
            )


async def while_connected(receive: Receive, answering: Awaitable[Reply]) -> Reply:
    """Return the reply, unless the client goes away or the server's grace ends.

    Raises ClientGoneError or RequestError then, and cancels `answering`.
    """
    loop = asyncio.get_running_loop()
    answerer = asyncio.current_task()
    assert answerer is not None
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        answerer.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(UNWATCHED_SECONDS, begin)
    try:
        return await answering
    except asyncio.CancelledError:
        answerer.uncancel()
        if gone:
            raise ClientGoneError from None
        raise RequestError("unhealthy", "the server has ended before the answer") from None
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
