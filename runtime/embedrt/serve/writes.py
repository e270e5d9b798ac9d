"""Joins the head and the body of an answer in one write.

uvicorn writes them separately, and each write is a system call and a packet.
"""

from __future__ import annotations

import asyncio


class JoinedWrites(asyncio.Transport):
    """Writes to a connection, at the end of an answer or at the loop's next turn."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Buffer the data, to be written soon."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def flush(self) -> None:
        """Write the buffered data."""
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Write the buffered data, then close the connection."""
        self.flush()
        self._transport.close()
