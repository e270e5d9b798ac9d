"""Errors of requests, before a dialect converts them to its own format."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "json",
    "invalid",
    "empty",
    "tokenizer",
    "too_large",
    "encoding",
    "unauthorized",
    "not_found",
    "method",
    "unsupported",
    "overloaded",
    "timeout",
    "unhealthy",
    "internal",
]

STATUS: dict[Kind, int] = {
    "json": 400,
    "invalid": 400,
    "empty": 400,
    "tokenizer": 400,
    "too_large": 413,
    "encoding": 415,
    "unauthorized": 401,
    "not_found": 404,
    "method": 405,
    "unsupported": 424,
    "overloaded": 429,
    "timeout": 503,
    "unhealthy": 503,
    "internal": 500,
}


class RequestError(Exception):
    """Ends a request with an error. The message is sent to the client, and never logged."""

    def __init__(
        self, kind: Kind, message: str, *, field: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        self.field = field
        """The field of the request, with an index: ``input[3]``."""
        self.retry_after = retry_after
        """Seconds after which the client should call again."""
