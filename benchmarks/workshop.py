"""Artifacts of a model, each made once by the environment that can, and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from threading import Lock

from benchmarks.catalog import Preparation, preparations
from benchmarks.checkout import ROOT, code_digest
from benchmarks.environments import interpreter
from benchmarks.failure import ContenderError
from benchmarks.process import QUIET

TIMEOUT_SECONDS = 1800


class Workshop:
    """Where one model's artifacts are. Many threads may ask for them."""

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        self.folder = folder / model
        self._failures: dict[str, str] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)

    def artifact(self, name: str) -> Path:
        """Return the artifact's folder, made if it is not there, and what it needs before it.

        Raises
        ------
        ContenderError
            It cannot be made; it is not tried twice.
        """
        preparation = preparations()[name]
        output = self._output(preparation)
        with self._locks[name]:
            if output.is_dir():
                return output
            if name in self._failures:
                raise ContenderError(self._failures[name])
            try:
                needed = self.artifact(preparation.needs) if preparation.needs else self.folder
                self._make(preparation.file, preparation.environment, name, needed, output)
            except ContenderError as error:
                self._failures[name] = str(error)
                raise
            return output

    def environments(self, name: str) -> list[str]:
        """Which ones it takes to make the artifact: none where it is there."""
        preparation = preparations()[name]
        if self._output(preparation).is_dir():
            return []
        needed = self.environments(preparation.needs) if preparation.needs else []
        return [*needed, preparation.environment]

    def _output(self, preparation: Preparation) -> Path:
        version = f"-{code_digest()}" if preparation.of_this_checkout else ""
        return self.folder / f"{preparation.artifact}{version}"

    def _make(self, file: Path, environment: str, name: str, needed: Path, output: Path) -> None:
        python = interpreter(environment)
        print(f"preparing {name} of {self.model}", file=sys.stderr, flush=True)
        part = output.with_name(f".{output.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        command = [str(python), "-m", "benchmarks.maker", str(file), name, self.model]
        environ = os.environ | QUIET | {"PYTHONPATH": str(ROOT / "tests")}
        try:
            subprocess.run(  # noqa: S603
                [*command, str(needed), str(part)],
                cwd=ROOT,
                env=environ,
                capture_output=True,
                text=True,
                check=True,
                timeout=TIMEOUT_SECONDS,
                encoding="utf-8",
            )
        except subprocess.TimeoutExpired as error:
            raise ContenderError(f"not prepared: {name} took too long") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
            raise ContenderError(f"not prepared: {name}: {lines[-1].strip()}"[:300]) from error
        part.rename(output)
