"""Bytes in and out: bodies of requests as JSON, replies, and the two ASGI messages of a reply."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any, NoReturn

import orjson
from starlette.types import Receive, Scope, Send

from embedrt.serve.errors import RequestError

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"

Headers = tuple[tuple[bytes, bytes], ...]

# Half of a surrogate pair as JSON writes it: JavaScript cuts texts there. orjson refuses it.
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ClientGoneError(Exception):
    """The client has closed the connection."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request, for a handler."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    """The JSON object of the body; empty for GET."""
    path: Mapping[str, str] = field(default_factory=dict)
    """The parameters of the route's path."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a handler."""

    body: bytes = b""
    status: int = 200
    content_type: bytes = TEXT
    headers: Headers = ()


def new_request_id() -> bytes:
    """Return 16 hexadecimal digits, to find a request in the log.

    They need not be secret. Digits from the system would cost a system call, in which Python lets
    another thread run, for which the event loop then waits.
    """
    return b"%016x" % getrandbits(64)


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> Reply:
    """Return a reply in JSON. Arrays of float32 get the fewest digits that round-trip."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Reply(body, status, JSON, headers)


async def send_reply(send: Send, reply: Reply, request_id: bytes) -> None:
    """Send the two messages of a reply."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id),
        *reply.headers,
    ]
    if reply.status == 204:
        del headers[:2]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of this lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


async def read_body(
    scope: Scope, receive: Receive, most: int, count: Callable[[int], None]
) -> bytes:
    """Read the whole body, and count its bytes as they arrive.

    Raises RequestError if it is compressed or has more than `most` bytes.
    """
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        raise RequestError("encoding", "the body is compressed; send it without a Content-Encoding")
    declared = header(scope, b"content-length") or b"0"
    if declared.isdigit() and int(declared[-20:]) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_large(most)
        count(len(parts[-1]))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_fields(body: bytes) -> Mapping[str, Any]:
    """Parse the body of a request, which must be a JSON object."""
    try:
        value = _parse(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("json", f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise RequestError("json", "the body is not a JSON object; send one, as in {...}")
    return value


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if SURROGATE.search(body) is None:
            raise
    return json.loads(body, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _too_large(most: int) -> RequestError:
    return RequestError(
        "too_large",
        f"the body has more than {most:,} bytes; send fewer texts at once, or start the server "
        "with a larger --max-body-mb",
    )
