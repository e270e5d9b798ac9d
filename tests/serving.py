"""Starts `embedrt serve` in a separate process on a free port."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from waiting import SECONDS

# The command line, in which batches wait as long as a file exists, and clients have more or less
# time for their last requests.
HELD_SERVER = """
import sys, time
from pathlib import Path
from embedrt.cli import main
from embedrt.engine.sessions import Sessions
from embedrt.serve import lifecycle

gate, run = Path(sys.argv[1]), Sessions.run


def held(*arguments, **options):
    while gate.exists():
        time.sleep(0.005)
    return run(*arguments, **options)


Sessions.run = held
lifecycle.FAREWELL_SECONDS = float(sys.argv[2])
lifecycle.IDLE_SECONDS = int(sys.argv[3])
sys.exit(main(sys.argv[4:]))
"""


@dataclass
class Serving:
    """A running server."""

    process: subprocess.Popen[bytes]
    log_file: Path
    gate: Path
    """No batch runs while this file exists, if the server was started with `held`."""
    url: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=SECONDS))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def post(self, path: str, value: object, **options: object) -> httpx.Response:
        return self.http.post(self.url + path, json=value, **options)  # type: ignore[arg-type]

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.http.get(self.url + path, **options)  # type: ignore[arg-type]

    def texts(self) -> int:
        """Return how many texts have arrived. Uses a separate connection."""
        return int(httpx.get(self.url + "/stats", timeout=SECONDS).json()["texts"])

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Run no batch until the block ends. Needs a server that was started with `held`."""
        self.gate.touch()
        try:
            yield
        finally:
            self.gate.unlink()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def end(self, number: int = signal.SIGTERM, seconds: float = SECONDS) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


def start(
    bundle: Path,
    log_file: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    held: bool = False,
    farewell: float = 1,
    idle: int = 120,
) -> Serving:
    """Start a server and wait until it accepts connections.

    With `held`, see `Serving.holding`; `farewell` is then the time in seconds for the last
    requests, and `idle` the time after which an idle connection is closed.
    """
    gate = log_file.with_name("gate")
    seconds = str(farewell), str(idle)
    program = ["-c", HELD_SERVER, str(gate), *seconds] if held else ["-m", "embedrt"]
    command = [sys.executable, *program, "serve", str(bundle), *options]
    if "--uds" not in options and "--port" not in options:
        command += ["--port", "0"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **(environment or {})})
    serving = Serving(process, log_file, gate)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        found = re.search(r"serving on ([^\s\"]+)", serving.log())
        if found:
            serving.url = found[1]
            return serving
        if process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"the server did not start: {serving.log()}")


@contextmanager
def serving(
    bundle: Path,
    log_file: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    held: bool = False,
    farewell: float = 1,
    idle: int = 120,
) -> Iterator[Serving]:
    """Start a server as `start` does; on exit, end it if it is still running."""
    server = start(
        bundle,
        log_file,
        *options,
        environment=environment,
        held=held,
        farewell=farewell,
        idle=idle,
    )
    try:
        yield server
    finally:
        server.http.close()
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
