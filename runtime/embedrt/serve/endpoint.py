"""One request from its head to its answer: admitted, read, answered, counted, logged."""

from __future__ import annotations

import logging
from functools import cache
from time import perf_counter

from starlette.types import Receive, Scope, Send

from embedrt.serve.admission import Held, overloaded
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
        with Held(service.admission) as held:
            body = await read_body(scope, receive, service.options.max_body_bytes, held.add)
            incoming = Incoming(read_fields(body), path)
            return await service.watch.over(receive, operation.answer(service, incoming))

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
