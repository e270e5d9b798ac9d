"""Limits of a connection that uvicorn lacks: size of headers, time to send, time to read.

A client must send a whole request within some seconds of connecting or of the request's first byte,
with at most 64 KiB of headers. In each such period, it must read enough of its answer to make room
in the system's buffer of a few megabytes. Otherwise it could hold a connection and its memory
forever.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from embedrt.serve.writes import JoinedWrites

MAX_HEADER_BYTES = 1 << 16


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, read_seconds: float, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._read_seconds = read_seconds
        self._receiving: asyncio.TimerHandle | None = None
        self._draining: asyncio.TimerHandle | None = None
        self._arriving = False
        self._in_headers = True
        self._header_bytes = 0
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time in which the first request must arrive."""
        super().connection_made(transport)
        self._replies = JoinedWrites(transport, self.loop)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        super().connection_lost(exc)
        for timer in (self._receiving, self._draining):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Count the bytes up to the end of the headers, and start the timer for the body."""
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._header_bytes += len(data)
        self._feed(data)
        if self._in_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(431, f"The headers have more than {MAX_HEADER_BYTES} bytes.")
        elif self._arriving and self._receiving is None:
            self._expect_request()

    def on_message_begin(self) -> None:
        """Record the start of a request."""
        super().on_message_begin()
        self._arriving = True

    def on_headers_complete(self) -> None:
        """Begin to read the body."""
        if self._header_bytes > MAX_HEADER_BYTES:
            self._check_headers()
        if self.parser.should_upgrade():
            return
        self._in_headers, self._header_bytes = False, 0
        super().on_headers_complete()
        self.cycle.transport = self._replies

    def on_message_complete(self) -> None:
        """Stop the timer of a complete request."""
        if self.parser.should_upgrade():
            return
        self._arriving, self._in_headers = False, True
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Write the answer, and watch whether the client reads it."""
        self._replies.flush()
        super().on_response_complete()
        unread = self.transport.get_write_buffer_size()
        if unread and self._draining is None:
            self._unread = unread
            self._draining = self.loop.call_later(self._read_seconds, self._check_reading)

    def resume_writing(self) -> None:
        """Record that the client reads, before the next answer adds to the unread bytes."""
        self._unread = sys.maxsize
        super().resume_writing()

    def ask_to_close(self) -> None:
        """Answer the requests that have arrived with the server's present headers.

        uvicorn replaces these each second, and a request keeps those of its own second.
        """
        for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None:
                cycle.default_headers = self.server_state.default_headers

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, but not one whose client still reads or sends."""
        if self._receiving is None and not self.transport.get_write_buffer_size():
            super().timeout_keep_alive_handler()

    def _feed(self, data: bytes) -> None:
        """Parse what arrives, and ignore the header ``Upgrade``, as HTTP allows.

        Java's HttpClient asks for HTTP/2 with its first request. The parser does not read the body
        of such a request, which is therefore parsed again without the header.
        """
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            method, version = self.parser.get_method(), self.parser.get_http_version()
            if method == b"CONNECT":
                self.send_400_response("This server is no proxy.")
                return
            kept = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
            head = [b"%b %b HTTP/%b" % (method, self.url, version.encode()), *kept]
            self._feed(b"\r\n".join([*head, b"", data[upgrade.args[0] :]]))
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def _check_headers(self) -> None:
        """Raise ValueError, which uvicorn answers with 400, for headers that came in one piece."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > (
            MAX_HEADER_BYTES
        ):
            raise ValueError("the headers are too long")

    def _check_reading(self) -> None:
        self._draining = None
        unread = self.transport.get_write_buffer_size()
        if unread and unread >= self._unread:
            self.transport.abort()
        elif unread:
            self._unread = unread
            self._draining = self.loop.call_later(self._read_seconds, self._check_reading)

    def _expect_request(self) -> None:
        self._receiving = self.loop.call_later(self._read_seconds, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, f"No whole request within {self._read_seconds:g} seconds.")

    def _refuse(self, status: int, message: str) -> None:
        answered = self.cycle is not None and self.cycle.response_started
        if not answered or self.cycle.response_complete:
            body = message.encode()
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
        self.transport.close()
