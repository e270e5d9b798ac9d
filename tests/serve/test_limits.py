"""Tests that slow, endless and malformed connections end in time, and others still work."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from serving import Serving, serving
from tiny_bundle import make_tiny
from waiting import SECONDS, wait_until

pytestmark = pytest.mark.alone

READ_SECONDS = 2.0
LONG_AFTER = 7 * READ_SECONDS  # on a busy machine, and less than all take that wait for each other
HEAD = b"POST /embed HTTP/1.1\r\nhost: a\r\n"
BODY = b'{"inputs": "w1", "normalize": false}'
WHOLE = HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
VECTOR = b"[[0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0]]"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("strict")
    options = ["--read-timeout", str(READ_SECONDS), "--max-texts", "100000"]
    with serving(make_tiny(folder / "tiny"), folder / "log", *options) as server:
        yield server
        assert server.post("/embed", {"inputs": "w1"}).status_code == 200
        assert "error" not in server.log()


def ask(server: Serving, content: bytes) -> bytes:
    """Return the answer to a request, of which the server may not read all."""
    with server.connect() as connection:
        with suppress(ConnectionError):
            connection.sendall(content)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return the bytes that arrive until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


STARTS = [
    b"",
    b"P",
    b"POST /embed HTTP/1.1\r\n",
    HEAD,
    HEAD + b"content-length: 10\r\n\r\n",
    HEAD + b"content-length: 10\r\n\r\n{",
    HEAD + b"transfer-encoding: chunked\r\n\r\n",
    HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{",
    HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{1234\r\n",
    WHOLE + HEAD,
]


def test_requests_that_stop(strict: Serving) -> None:
    """Requests that stop anywhere time out, all of them at the same time."""

    def ask(start: bytes) -> tuple[bytes, float]:
        begin = time.monotonic()
        with strict.connect() as connection:
            connection.sendall(start)
            return read_all(connection), time.monotonic() - begin

    with ThreadPoolExecutor(len(STARTS)) as pool:
        found = list(pool.map(ask, STARTS))
    for start, (received, took) in zip(STARTS, found, strict=True):
        assert READ_SECONDS / 2 < took < LONG_AFTER < READ_SECONDS * len(STARTS)
        assert received.count(b"HTTP/1.1 408 Request Timeout\r\n") == 1
        assert received.count(VECTOR) == start.startswith(WHOLE)


@pytest.mark.parametrize("head", [HEAD, HEAD + b"content-length: 99999\r\n\r\n"])
def test_a_request_that_trickles(strict: Serving, head: bytes) -> None:
    """Each byte arrives in time, but the request never completes."""
    begin = time.monotonic()
    with strict.connect() as connection:
        connection.sendall(head)
        connection.settimeout(0.05)
        received = b""
        while time.monotonic() - begin < LONG_AFTER:
            try:
                connection.sendall(b"a")
                received += connection.recv(1000)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert time.monotonic() - begin < LONG_AFTER
    assert not received or received.startswith(b"HTTP/1.1 408 ")


def test_endless_headers(strict: Serving) -> None:
    with strict.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        sent = 0
        try:
            connection.sendall(HEAD)
            while sent < 10_000_000:
                connection.sendall(b"x-more: %b\r\n" % (b"a" * 1000))
                sent += 1000
        except ConnectionError:
            pass
        assert sent < 5_000_000
        received = read_all(connection)
    assert not received or received.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("line", [b"x: %b\r\n" % (b"a" * 90_000), b"x: 1\r\n" * 30_000])
def test_large_headers_in_one_piece(strict: Serving, line: bytes) -> None:
    answer = ask(strict, HEAD + line + b"content-length: 2\r\n\r\n{}")
    assert answer.split(b" ")[1] in {b"431", b"400"}


def test_a_long_path(strict: Serving) -> None:
    answer = ask(strict, b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 100_000))
    assert answer.split(b" ")[1] in {b"431", b"400"}


class TestReading:
    """Three answers of 4.4 MB on one connection exceed the system's buffers."""

    TEXTS = 100_000
    ANSWERS = 3

    ATTEMPTS = 5

    @contextmanager
    def connection(self, strict: Serving) -> Iterator[socket.socket]:
        body = json.dumps({"inputs": ["w1"] * self.TEXTS, "normalize": False}).encode()
        head = HEAD + b"content-length: %d\r\n" % len(body)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.connect(("127.0.0.1", strict.port))
            for _ in range(self.ANSWERS - 1):
                connection.sendall(head + b"\r\n" + body)
            connection.sendall(head + b"connection: close\r\n\r\n" + body)
            yield connection

    @property
    def size(self) -> int:
        return self.ANSWERS * self.TEXTS * (len(VECTOR) - 1)

    @pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
    def test_never(self, strict: Serving) -> None:
        """The server closes the connection, and unsent bytes are lost."""
        with self.connection(strict) as connection:
            wait_until(lambda: not is_open(strict, connection))
            assert 0 < len(read_all(connection)) < self.size

    def test_slowly(self, strict: Serving) -> None:
        """The answers take longer than any limit, but arrive completely.

        A busy machine may stop this client for longer than the limit, but not in each attempt.
        """
        for attempt in range(1, self.ATTEMPTS + 1):
            received = 0
            with (
                suppress(ConnectionError) if attempt < self.ATTEMPTS else nullcontext(),
                self.connection(strict) as connection,
            ):
                for _ in range(10):
                    time.sleep(READ_SECONDS / 5)
                    received += len(connection.recv(1 << 20, socket.MSG_WAITALL))
                received += len(read_all(connection))
            if received > self.size:
                break
        assert received > self.size


def is_open(server: Serving, connection: socket.socket) -> bool:
    """Whether the server has not closed its side of a connection."""
    ends = [f"0100007F:{port:04X}" for port in (server.port, connection.getsockname()[1])]
    established = "01"
    sockets = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()
    return any(line.split()[1:4] == [*ends, established] for line in sockets)


def test_pipelined(strict: Serving) -> None:
    with strict.connect() as connection:
        connection.sendall(WHOLE * 50 + b"GET /live HTTP/1.1\r\nconnection: close\r\n\r\n")
        received = read_all(connection)
    assert received.count(VECTOR) == 50
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 51


WISH = WHOLE.replace(
    b"\r\n\r\n",
    b"\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n",
)


@pytest.mark.parametrize(
    "pieces",
    [
        [WISH],
        [WISH[: -len(BODY)], BODY],
        [bytes([byte]) for byte in WISH],
        [WISH + WHOLE + WISH],
        [WHOLE + WISH, WHOLE],
        [
            WISH.replace(b"content-length: %d" % len(BODY), b"transfer-encoding: chunked").replace(
                BODY, b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
            )
        ],
        [b"GET /live HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n" + WISH],
    ],
    ids=["whole", "body apart", "bytes", "pipelined", "later", "chunked", "websocket"],
)
def test_a_wish_for_another_protocol_is_ignored(strict: Serving, pieces: list[bytes]) -> None:
    """Java's HttpClient wishes for HTTP/2 in the first request of a connection."""
    requests = b"".join(pieces)
    with strict.connect() as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.sendall(b"GET /live HTTP/1.1\r\nconnection: close\r\n\r\n")
        received = read_all(connection)
    assert received.count(VECTOR) == requests.count(b"POST ")
    assert received.count(b"HTTP/1.1 200 OK\r\n") == requests.count(b" HTTP/1.1\r\n") + 1


def test_a_tunnel_is_refused(strict: Serving) -> None:
    with strict.connect() as connection:
        connection.sendall(b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_half_closed(strict: Serving) -> None:
    for start in (WHOLE, HEAD, b""):
        with strict.connect() as connection:
            connection.sendall(start)
            connection.shutdown(socket.SHUT_WR)
            read_all(connection)


def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / "tiny")
    with (
        serving(tiny, tmp_path / "log", held=True, idle=1) as server,
        server.connect() as connection,
    ):
        connection.sendall(WHOLE)
        begin = time.monotonic()
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert time.monotonic() - begin < SECONDS / 2


def test_many_slow_clients_do_not_stop_others(tmp_path: Path) -> None:
    """The others get their answers while the slow ones have all the time that they want."""
    options = ["--read-timeout", "3600"]
    with serving(make_tiny(tmp_path / "tiny"), tmp_path / "log", *options) as server:
        slow = [server.connect() for _ in range(300)]
        for connection in slow:
            connection.sendall(HEAD + b"content-length: 100\r\n\r\n{")
        for _ in range(20):
            assert server.post("/embed", {"inputs": "w1"}).status_code == 200
        for connection in slow:
            connection.close()
