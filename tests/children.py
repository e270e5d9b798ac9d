"""Runs Python programs in separate processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Python 3.12 warns about forking a process that has threads, which these tests do on purpose.
WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]

SECONDS = 300  # timeout, longer than any program takes on a busy machine

BEGINNING = """
import os, sys, threading, time
from embedrt import Embedder
from embedrt.errors import ClosedError, ForkedError

TEXTS = [f"w{number} " * (1 + number % 7) for number in range(10)]


def use_all_cores(embedder):
    while not embedder._engine._sessions.loading:
        embedder.encode("w1")
    embedder._engine._sessions.loading.result()
    assert embedder._engine._sessions.all_cores
    for _ in range(2):  # the first call follows a pause and uses one core
        embedder.encode("w1")


def run_children(work, times=1):
    '''Fork; the child exits normally, with the result of `work` as its status.'''
    statuses = []
    for _ in range(times):
        sys.stdout.flush()  # else the child would write the same again
        child = os.fork()
        if not child:
            sys.exit(work())
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return statuses
"""


@contextmanager
def started(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start Python with these arguments; on exit, kill its remaining processes."""
    with subprocess.Popen(
        [sys.executable, *WARNINGS, *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run(program: str, *arguments: str | Path) -> str:
    """Run `BEGINNING` and a program; return its output.

    Asserts that the program and its forks exit in time, with status 0 and nothing on stderr.
    """
    with started("-c", BEGINNING + program, *arguments) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert err == ""
    assert process.returncode == 0
    return out


def output_of(program: str, *arguments: str | Path) -> str:
    """Run a program without a timeout; return its output.

    Asserts that it exits with status 0. It may write to stderr.
    """
    process = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


PRINT_PEAK = """
from embedrt.bench.memory import peak_bytes
print(peak_bytes())
"""


def peak_of(program: str, *arguments: str | Path) -> int:
    """Run a program like `output_of`; return its peak memory in bytes."""
    return int(output_of(program + PRINT_PEAK, *arguments).splitlines()[-1])
