"""The processes of contenders: starting, requests, detection of crashes and timeouts, reuse."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.checkout import ROOT
from benchmarks.contenders import Purpose, Setup
from benchmarks.harness.artifacts import Artifacts
from benchmarks.harness.catalog import ContenderError, Entry, HungError
from benchmarks.harness.environments import QUIET, SIDE_BY_SIDE, install, interpreter
from benchmarks.models import MAX_TOKENS
from embedrt.engine.cpu import available_threads


class Process:
    """A process with one loaded contender: see `benchmarks.harness.worker`."""

    def __init__(self, python: Path, file: Path, setup: Setup, *, timeout: float) -> None:
        """Start a worker and load the contender; raise ContenderError on failure or timeout."""
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        job = {"file": str(file), "setup": asdict(setup), "started": time.monotonic()}
        self._process = subprocess.Popen(  # noqa: S603
            [str(python), "-m", "benchmarks.harness.worker", json.dumps(job, default=str)],
            cwd=ROOT,
            env=os.environ | QUIET,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the worker and return its answer.

        Raises ContenderError if the method fails, the worker crashes, or there is no answer within
        the timeout, after which the worker is killed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            pass  # the process has ended, which _answer reports
        return self._answer()

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and all processes that it started."""
        if self.alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._timeout)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise HungError(f"hung: no answer within {self._timeout:g} s")
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2].strip()
            raise ContenderError("crashed: " + (f"{how}: {last}"[:300] if last else how))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"failed: {answer['error']}")
        return answer


@dataclass(slots=True)
class Pool:
    """Processes for one model, kept between workloads so that contenders can alternate.

    There is at most one for each contender, and all are tuned for the same purpose. A contender
    that hangs or cannot be loaded is not started again; one that crashes is.
    """

    contenders: Mapping[str, Entry]
    artifacts: Artifacts
    _: KW_ONLY
    timeout: float
    """Seconds that a load or an answer may take."""
    _purpose: Purpose = field(default="throughput", init=False)
    _kept: dict[str, Process] = field(default_factory=dict, init=False)
    _excluded: dict[str, str] = field(default_factory=dict, init=False)

    def prepare(self) -> None:
        """Make the environment and the artifact of each contender, before anything is timed."""
        needed = self.artifacts.environments
        every = ((one.environment, *needed(one.needs)) for one in self.contenders.values())
        install(name for names in every for name in names)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
            list(executor.map(self._prepare_one, self.contenders))

    def tune(self, purpose: Purpose) -> None:
        """Load contenders for this purpose from now on."""
        if purpose != self._purpose:
            self.close()
            self._purpose = purpose

    def ask(self, name: str, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request to the contender's process, which is started if necessary."""
        if name in self._excluded:
            raise ContenderError(self._excluded[name])
        process = self._kept.get(name)
        if process is None or not process.alive:
            process = self._start(name)
        try:
            return process.ask(do, **arguments)
        except HungError as error:
            self._excluded[name] = str(error)
            raise

    def _start(self, name: str) -> Process:
        if name in self._kept:
            self._kept.pop(name).close()
        contender = self.contenders[name]
        try:
            python = interpreter(contender.environment)
            limit, threads = MAX_TOKENS[self.artifacts.model], available_threads()
            setup = Setup(name, self.artifact(name), limit, self._purpose, threads)
            process = Process(python, contender.file, setup, timeout=self.timeout)
        except ContenderError as error:
            self._excluded[name] = str(error)
            raise
        self._kept[name] = process
        return process

    def artifact(self, name: str) -> Path:
        """Return the folder that the contender runs; raise ContenderError if it cannot be made."""
        return self.artifacts.artifact(self.contenders[name].needs)

    def close(self) -> None:
        """End all kept processes."""
        for process in self._kept.values():
            process.close()
        self._kept.clear()

    def _prepare_one(self, name: str) -> None:
        try:
            interpreter(self.contenders[name].environment)
            self.artifact(name)
        except ContenderError as error:
            self._excluded[name] = str(error)
