"""Tests that an answer is one write, in the order of the answers and before a close."""

from __future__ import annotations

import asyncio

from embedrt.serve.writes import JoinedWrites


class Connection(asyncio.Transport):
    """What was written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class TestJoinedWrites:
    def test_head_and_body(self) -> None:
        async def answer() -> list[bytes]:
            connection = Connection()
            joined = JoinedWrites(connection, asyncio.get_running_loop())
            for answer in (b"1", b"2"):
                joined.write(b"head")
                joined.write(answer)
                joined.flush()
            await asyncio.sleep(0)
            return connection.writes

        assert asyncio.run(answer()) == [b"head1", b"head2"]

    def test_a_head_whose_body_comes_later(self) -> None:
        """As of answers in parts, and of 100 Continue."""

        async def answer() -> list[bytes]:
            connection = Connection()
            joined = JoinedWrites(connection, asyncio.get_running_loop())
            joined.write(b"head")
            await asyncio.sleep(0)
            assert connection.writes == [b"head"]
            joined.write(b"body")
            await asyncio.sleep(0)
            return connection.writes

        assert asyncio.run(answer()) == [b"head", b"body"]

    def test_close(self) -> None:
        async def answer() -> tuple[list[bytes], bool]:
            connection = Connection()
            joined = JoinedWrites(connection, asyncio.get_running_loop())
            joined.write(b"head")
            joined.close()
            await asyncio.sleep(0)
            return connection.writes, joined.is_closing()

        assert asyncio.run(answer()) == ([b"head"], True)
