"""Python programs in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Python 3.12 warns of every fork beside threads, which is what is tried here.
WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]

SECONDS = 60  # more than any of them takes on a busy machine; what hangs is killed then

BEGINNING = """
import os, sys, threading, time
from embedrt import Embedder
from embedrt.errors import ClosedError, ForkedError

TEXTS = [f"w{number} " * (1 + number % 7) for number in range(10)]


def use_all_cores(embedder):
    while not embedder._engine._sessions.loading:
        embedder.encode("w1")
    embedder._engine._sessions.loading.result(timeout=30)
    assert embedder._engine._sessions.all_cores
    for _ in range(2):  # the first after a pause, and so on one core
        embedder.encode("w1")


def run_children(work, times=1):
    '''Fork, have the child return its exit status, and let it end as any program does.'''
    statuses = []
    for _ in range(times):
        child = os.fork()
        if not child:
            sys.exit(work())
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return statuses
"""


@contextmanager
def started(*command: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start Python with these arguments; in the end kill whatever of it is still there."""
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
    """Run a program after `BEGINNING`; return what it printed.

    It and what it forked must end in time, well, and with nothing on stderr.
    """
    with started("-c", BEGINNING + program, *arguments) as process:
        out, err = process.communicate(timeout=SECONDS)
    assert err == ""
    assert process.returncode == 0
    return out
