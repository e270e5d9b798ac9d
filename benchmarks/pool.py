"""The contenders' processes: kept between workloads, so that they can take turns."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.catalog import Contender
from benchmarks.contenders import Purpose
from benchmarks.environments import SIDE_BY_SIDE, install, interpreter
from benchmarks.failure import ContenderError, HungError
from benchmarks.process import Process
from benchmarks.workshop import Workshop


class Pool:
    """Processes of one model, at most one a contender, all loaded for the same purpose.

    A contender that cannot be loaded, or hangs, is not tried again; one that crashes is.
    """

    def __init__(
        self,
        contenders: Mapping[str, Contender],
        workshop: Workshop,
        *,
        max_tokens: int,
        threads: int,
        timeout: float,
    ) -> None:
        self.contenders = contenders
        self._workshop = workshop
        self._max_tokens = max_tokens
        self._threads = threads
        self._timeout = timeout
        self._purpose: Purpose = "throughput"
        self._kept: dict[str, Process] = {}
        self._out: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the environment and the artifact of each contender, before anything is timed."""
        install(
            environment
            for contender in self.contenders.values()
            for environment in (
                contender.environment,
                *self._workshop.environments(contender.artifact),
            )
        )
        with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
            list(executor.map(self._prepare_one, self.contenders))

    def _prepare_one(self, name: str) -> None:
        try:
            interpreter(self.contenders[name].environment)
            self.artifact(name)
        except ContenderError as error:
            self._out[name] = str(error)

    def tune(self, purpose: Purpose) -> None:
        """From now on, processes are for this purpose."""
        if purpose != self._purpose:
            self.close()
            self._purpose = purpose

    def ask(self, name: str, do: str, **arguments: Any) -> dict[str, Any]:
        """Ask the contender's kept process, started if need be.

        Raises
        ------
        ContenderError
            It cannot be had, crashed, hung or failed.
        """
        process = self._kept.get(name)
        if process is None or not process.alive:
            if process is not None:
                process.close()
            process = self._kept[name] = self.fresh(name)
        return self.ask_process(name, process, do, **arguments)

    def ask_process(self, name: str, process: Process, do: str, **arguments: Any) -> dict[str, Any]:
        """Ask a process of this contender, and remember if it hangs."""
        try:
            return process.ask(do, timeout=self._timeout, **arguments)
        except HungError as error:
            self._out[name] = str(error)
            raise

    def fresh(self, name: str) -> Process:
        """Start a process of the contender that nobody else asks; the caller closes it.

        Raises
        ------
        ContenderError
            It cannot be installed, prepared or loaded.
        """
        if name in self._out:
            raise ContenderError(self._out[name])
        contender = self.contenders[name]
        try:
            return Process(
                interpreter(contender.environment),
                {
                    "file": str(contender.file),
                    "name": name,
                    "folders": [str(self._workshop.artifact("source")), str(self.artifact(name))],
                    "max_tokens": self._max_tokens,
                    "purpose": self._purpose,
                    "threads": self._threads,
                },
                timeout=self._timeout,
            )
        except ContenderError as error:
            self._out[name] = str(error)
            raise

    def artifact(self, name: str) -> Path:
        """Folder that the contender runs; ContenderError where it cannot be made."""
        return self._workshop.artifact(self.contenders[name].artifact)

    def close(self) -> None:
        """End all kept processes."""
        for process in self._kept.values():
            process.close()
        self._kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
