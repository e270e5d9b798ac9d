"""An operation: a route, its handler, and the dialect of its errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from embedrt.bundle.manifest import Task
from embedrt.serve.errors import STATUS, Kind, RequestError
from embedrt.serve.service import Service
from embedrt.serve.wire import Headers, Incoming, Reply, json_reply

Handler = Callable[[Service, Incoming], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The format of errors for one kind of client."""

    body: Callable[[RequestError, int], object]
    """The JSON of an error with a status."""
    statuses: dict[Kind, int]
    """Statuses that differ from `STATUS`."""

    def reply(self, error: RequestError) -> Reply:
        """Return the answer for an error."""
        status = self.statuses.get(error.kind, STATUS[error.kind])
        headers: Headers = ()
        if error.retry_after is not None:
            headers = ((b"retry-after", b"%d" % error.retry_after),)
        if error.kind == "unauthorized":
            # Browsers prompt for a password, which is the key; the page cannot send it otherwise.
            headers = ((b"www-authenticate", b'Basic realm="embedrt", charset="UTF-8"'),)
        return json_reply(self.body(error, status), status, headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route."""

    path: str
    method: Literal["GET", "POST"]
    answer: Handler
    dialect: Dialect
    task: Task | None = None
    """The task of the bundles that answer it; None for all."""
    public: bool = False
    """Whether it requires no key."""
