"""The life cycle of a server: bind, load, check the probes, serve, drain, end.

The address is bound first, so that a conflict is reported at once. Connections are accepted after
the bundle's probes have been computed, so a reachable server is ready. After SIGTERM, the server is
not ready, answers all pending and arriving requests with ``Connection: close``, and ends when the
clients have closed their connections.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import math
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from embedrt.arguments import check_at_least
from embedrt.bundle.reader import Bundle
from embedrt.loaded import LoadOptions
from embedrt.serve.app import create_app
from embedrt.serve.below import Below
from embedrt.serve.health import Health
from embedrt.serve.limits import LimitedProtocol
from embedrt.serve.logs import LogFormat, configure_logging
from embedrt.serve.options import ServeOptions
from embedrt.signals import ending_signals, handled
from embedrt.tasks import load_any
from embedrt.verify import check_probes

logger = logging.getLogger("embedrt.serve")

# Until an idle connection is closed. Proxies and pools of connections must keep theirs for less, or
# they send requests on connections that close.
IDLE_SECONDS = 120
FAREWELL_SECONDS = 1.0  # in which idle connections may still send a request, and be told to close
LAST_SECONDS = 0.25  # for the requests of connections that were accepted last
MINUTE = 60.0
# Errors of `accept` after which asyncio tries again.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options of the process that serves a bundle."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 selects a free port, which the first line of the log shows."""
    uds: Path | None = None
    """A Unix socket to listen on in place of host and port."""
    root_path: str = ""
    """The path below which a proxy serves the application, and which it may take off."""
    read_timeout: float = 30
    """Seconds in which a client must send a whole request."""
    grace: float = 30
    """Seconds in which requests are finished after SIGTERM."""
    log_format: LogFormat = "text"
    log_level: str = "info"
    load: LoadOptions = field(default_factory=LoadOptions)
    app: ServeOptions = field(default_factory=ServeOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port={self.port}; expected 0 to 65535")
        check_at_least("read_timeout", self.read_timeout, 0.001)
        check_at_least("grace", self.grace, 0)


def serve(path: str | Path, options: ServerOptions) -> None:
    """Serve the bundle at `path` until SIGTERM, SIGINT or SIGHUP."""
    configure_logging(options.log_format, options.log_level)
    with listening(options) as bound:
        listener = bound.listener
        if not options.app.api_keys and not is_local(listener):
            logger.warning("no API key: anyone who can reach %s can use it", address_of(listener))
        bundle = Bundle.open(path)
        with load_any(bundle, options.load) as loaded:
            check_probes(loaded, bundle)
            app = create_app(loaded, options.app)
            bound.listen()
            gc.freeze()  # a collection of what was imported would stop all requests
            config = config_of(Below(app, options.root_path), options)
            Server(config, app.state.service.health).run(sockets=[listener])


def config_of(app: ASGIApp, options: ServerOptions) -> uvicorn.Config:
    """Return uvicorn's configuration for an application."""
    return uvicorn.Config(
        app,
        http=partial(LimitedProtocol, read_seconds=options.read_timeout),  # type: ignore[arg-type]
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(options.grace)),
    )


class Server(uvicorn.Server):
    """uvicorn's server, which also drains its connections and ends with status 0."""

    def __init__(self, config: uvicorn.Config, health: Health) -> None:
        super().__init__(config)
        self._health = health
        self._exhausted_at = -math.inf

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals that end the server, without raising them again at the end."""
        with handled(ending_signals(), self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Become unready at once; a second signal ends the process without waiting for requests."""
        self._health.draining = True
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Log the address when connections are accepted."""
        asyncio.get_running_loop().set_exception_handler(self._note_error)
        await super().startup(sockets)
        for listener in sockets or ():
            logger.info("serving on %s", address_of(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer arriving requests with ``Connection: close``, then stop listening and end."""
        logger.info("ending, with %d connections", len(self.server_state.connections))
        self.server_state.default_headers.append((b"connection", b"close"))
        for connection in self.server_state.connections:
            connection.ask_to_close()  # type: ignore[union-attr]
        await self._until_closed(FAREWELL_SECONDS)
        await self._stop_listening(sockets or [])
        # uvicorn closes connections whose request is still on its way.
        await self._until_closed(LAST_SECONDS)
        await super().shutdown(sockets)
        logger.info("ended")

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the listening sockets, and serve the connections that wait to be accepted."""
        waiting: list[socket.socket] = []
        for listener in sockets:
            with suppress(BlockingIOError, ConnectionError):  # none is left
                while True:
                    waiting.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        for connection in waiting:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _note_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of the loop; what keeps it from accepting connections, once a minute.

        It tries to accept them thousands of times a second.
        """
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in EXHAUSTED:
            loop.default_exception_handler(context)
        elif monotonic() - self._exhausted_at > MINUTE:
            self._exhausted_at = monotonic()
            logger.error("no connection can be accepted: %s; raise the limit (ulimit -n)", error)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )  # type: ignore[call-arg]
        return protocol

    async def _until_closed(self, seconds: float) -> None:
        """Wait until the clients have closed all connections, for `seconds` at most."""
        end, connections = monotonic() + seconds, self.server_state.connections
        while connections and monotonic() < end and not self.force_exit:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound address. Clients cannot connect before `listen`."""

    listener: socket.socket
    address: str
    options: str
    """The options that choose another address, for messages."""
    file: Path | None = None
    """The file of a Unix socket, which another server may replace by its own."""
    status: tuple[int, ...] = ()
    """The status of that file when it was made."""

    def listen(self) -> None:
        """Let clients connect; raise OSError if another server has taken the address meanwhile."""
        with _named(self.address, self.options):
            self.listener.listen()
            if not self._has_file():
                raise OSError(errno.EADDRINUSE, "another server has taken it")

    def close(self) -> None:
        """Close the socket, and remove its file."""
        self.listener.close()
        if self.file is not None and self._has_file():
            self.file.unlink(missing_ok=True)

    def _has_file(self) -> bool:
        return self.file is None or _status_of(self.file) == self.status


@contextmanager
def listening(options: ServerOptions) -> Iterator[Bound]:
    """Bind the address; raise OSError that names it. A Unix socket's file is removed at the end."""
    bound = _bind_tcp(options.host, options.port) if options.uds is None else _bind_uds(options.uds)
    try:
        yield bound
    finally:
        bound.close()


def address_of(listener: socket.socket) -> str:
    """Return a URL, or the path of a Unix socket."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine can connect."""
    name = listener.getsockname()
    return isinstance(name, str) or ip_address(name[0]).is_loopback


def _bind_tcp(host: str, port: int) -> Bound:
    named = f"{host}:{port}", "--host or --port"
    with _named(*named):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        if os.name != "nt":  # where it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    return Bound(listener, *named)


def _bind_uds(path: Path) -> Bound:
    named = str(path), "--uds"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _named(*named):
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_served(path):
            path.unlink()
        listener.bind(str(path))
    return Bound(listener, *named, path, _status_of(path))


@contextmanager
def _named(address: str, options: str) -> Iterator[None]:
    """Name the address in errors, and the options that choose another."""
    try:
        yield
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {address}: {error}; choose another {options}") from error


def _status_of(file: Path) -> tuple[int, ...]:
    """Return what distinguishes a file from another of its name; nothing if there is none.

    The number of a removed file may be used again, so the time is needed too.
    """
    with suppress(OSError):
        found = file.lstat()
        return found.st_dev, found.st_ino, found.st_mtime_ns
    return ()


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, suppress(OSError):
        client.connect(str(path))
        return True
    return False
