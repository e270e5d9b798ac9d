"""The servers: starting each in a process, waiting until it is ready, ending it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

from benchmarks import MAIN_MODEL
from benchmarks.checkout import ROOT
from benchmarks.harness.artifacts import Artifacts
from benchmarks.harness.environments import interpreter

PORT = 8976
LONGEST_START = 300.0
LONGEST_END = 60.0


@dataclass(frozen=True, slots=True)
class Command:
    """The command that starts a server."""

    name: str
    arguments: list[str]
    variables: Mapping[str, str] = field(default_factory=dict)
    route: str = "/v1/embeddings"
    ready: str = "/ready"


@dataclass(slots=True)
class Running:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    """The URL of the embeddings route."""
    seconds_to_ready: float

    def resident_mb(self) -> float:
        """Return the resident memory, in megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return float(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Return the CPU time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").split()
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONGEST_END)


def embedrt(bundle: Path, *options: str) -> Command:
    """Return the command that starts embedrt's server."""
    arguments = [sys.executable, "-m", "embedrt", "serve", str(bundle), "--port", str(PORT)]
    return Command("embedrt serve", [*arguments, *options])


def infinity(threads: int) -> Command:
    """Return the command that starts infinity's server with its torch engine."""
    program = str(interpreter("infinity").with_name("infinity_emb"))
    options = ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--port"]
    arguments = [program, "v2", "--model-id", original(), *options, str(PORT)]
    variables = {"OMP_NUM_THREADS": str(threads), "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    return Command("infinity", arguments, variables, "/embeddings", "/health")


def fastapi(threads: int) -> Command:
    """Return the command that starts the minimal handler around sentence-transformers."""
    arguments = [str(interpreter("fastapi")), "-m", "uvicorn", "--port", str(PORT)]
    arguments += ["--log-level", "error", "benchmarks.serving.fastapi_handler:app"]
    variables = {"MODEL": original(), "THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    return Command("FastAPI", arguments, variables)


OTHERS: dict[str, Callable[[int], Command]] = {"infinity": infinity, "fastapi": fastapi}
"""The servers that are compared with embedrt's, by the number of threads."""


def original() -> str:
    """Return the folder of the main model."""
    return str(Artifacts(MAIN_MODEL).artifact("source"))


@contextmanager
def running(command: Command) -> Iterator[Running]:
    """Start a server and wait until it is ready; end it afterwards."""
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - the servers that are compared
        command.arguments,
        cwd=ROOT,
        env=os.environ | dict(command.variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{PORT}"
    try:
        while not _answers(base + command.ready):
            if process.poll() is not None or time.perf_counter() - start > LONGEST_START:
                raise RuntimeError(f"{command.name} does not start: {command.arguments}")
            time.sleep(0.002)
        yield Running(process, base + command.route, time.perf_counter() - start)
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(LONGEST_END)
            process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except OSError:
        return False
