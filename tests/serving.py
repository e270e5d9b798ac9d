"""Starts `embedrt serve` in a separate process on a free port."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

SECONDS_TO_START = 60.0


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclass
class Serving:
    """A running server."""

    process: subprocess.Popen[bytes]
    log_file: Path
    url: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def post(self, path: str, value: object, **options: object) -> httpx.Response:
        return self.http.post(self.url + path, json=value, **options)  # type: ignore[arg-type]

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.http.get(self.url + path, **options)  # type: ignore[arg-type]

    def wait_for_waiting_texts(self, least: int, seconds: float = 30) -> None:
        """Wait until at least `least` texts are queued. Uses separate connections."""
        end = time.monotonic() + seconds
        while httpx.get(self.url + "/stats").json()["waiting_texts"] < least:
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def end(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


def start(
    bundle: Path, log_file: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Serving:
    """Start a server and wait until it accepts connections."""
    command = [sys.executable, "-m", "embedrt", "serve", str(bundle), *options]
    if "--uds" not in options and "--port" not in options:
        command += ["--port", "0"]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **(environment or {})})
    serving = Serving(process, log_file)
    end = time.monotonic() + SECONDS_TO_START
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
    bundle: Path, log_file: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[Serving]:
    """Start a server; on exit, end it if it is still running."""
    server = start(bundle, log_file, *options, environment=environment)
    try:
        yield server
    finally:
        server.http.close()
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
