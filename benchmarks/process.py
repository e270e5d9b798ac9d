"""The harness's end of a worker: start it, ask it, and notice when it crashes or hangs."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.checkout import ROOT
from benchmarks.failure import ContenderError, HungError

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "true",  # as without us, but unasked
    "PYTHONDONTWRITEBYTECODE": "",
}


class Process:
    """A worker's process. Close it, or use it in a ``with`` block."""

    def __init__(self, python: Path, job: dict[str, Any], *, timeout: float) -> None:
        """Start it and wait until it has loaded.

        Raises
        ------
        ContenderError
            It cannot be loaded, crashed, or took longer than `timeout` seconds.
        """
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        environment = os.environ | QUIET
        self._process = subprocess.Popen(  # noqa: S603
            [
                str(python),
                "-m",
                "benchmarks.worker",
                json.dumps(job | {"started": time.monotonic()}),
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._answer(timeout)
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Have it do something and return its answer.

        Raises
        ------
        ContenderError
            It failed, crashed, or took longer than `timeout` seconds. After the last two it has
            ended.
        """
        if self._process.stdin is None:
            raise TypeError("the worker has no stdin")
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: its answer tells how
        return self._answer(timeout)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it, with all that it started."""
        if self.alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                continue  # what was not read when it ended

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def _answer(self, timeout: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise HungError(f"hung: no answer within {timeout:g} s") from None
        if not line:
            raise ContenderError(f"crashed: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"failed: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1].strip()}"[:300] if lines else how
