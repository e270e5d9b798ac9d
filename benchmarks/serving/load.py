"""Load from wrk: as many requests as the connections carry, or so many a second."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk counted in one run."""

    seconds: float
    answered: int
    """With status 200."""
    refused: int
    """With status 429."""
    other: int
    """With another status."""
    lost: int
    """Connections that failed, and requests without an answer within 60 seconds."""
    p50: float
    """Milliseconds, of all answers."""
    p99: float

    @property
    def rate(self) -> float:
        """Requests answered in a second."""
        return self.answered / self.seconds


def send(
    url: str, bodies: Iterable[str], *, connections: int, seconds: float, rate: float | None = None
) -> Load:
    """Send the bodies, over and over; at fixed times if there is a `rate` of requests a second."""
    program = shutil.which("wrk")
    if program is None:
        raise FileNotFoundError("wrk is missing; install it: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as file:
        file.writelines(f"{body}\n" for body in bodies)
        file.flush()
        command = [program, "--threads", "1", "--connections", str(connections)]
        command += ["--duration", f"{round(seconds)}s", "--timeout", "60s"]
        command += ["--script", str(SCRIPT), url, "--", file.name]
        command += [f"{rate:.3f}"] if rate else []
        ended = subprocess.run(  # noqa: S603 - wrk
            command, check=True, capture_output=True, text=True, encoding="utf-8"
        )
    return Load(**json.loads(ended.stdout.strip().splitlines()[-1]))
