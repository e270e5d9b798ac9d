"""The artifacts of a model, each made once in the environment of its preparation, then kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from threading import Lock

from benchmarks.checkout import FOLDER, ROOT, code_digest, run_command
from benchmarks.harness.catalog import ContenderError, Entry, preparations
from benchmarks.harness.environments import QUIET, interpreter

MODELS = FOLDER / ".models"


class Artifacts:
    """The artifacts of one model. Safe to use from several threads."""

    def __init__(self, model: str, folder: Path = MODELS) -> None:
        self.model = model
        self.folder = folder / model
        self._preparations = preparations()  # not in a thread: ast.parse is not thread-safe
        self._failures: dict[str, str] = {}
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)

    def artifact(self, name: str) -> Path:
        """Return the artifact's folder, made if missing; raise ContenderError if that fails."""
        preparation = self._preparations[name]
        output = self._output(preparation)
        with self._locks[name]:
            if output.is_dir():
                return output
            if name in self._failures:
                raise ContenderError(self._failures[name])
            try:
                needed = self.artifact(preparation.needs) if preparation.needs else self.folder
                self._make(preparation, needed, output)
            except ContenderError as error:
                self._failures[name] = str(error)
                raise
            return output

    def environments(self, name: str) -> list[str]:
        """Return the environments that making the artifact needs; none if it exists."""
        preparation = self._preparations[name]
        if self._output(preparation).is_dir():
            return []
        needed = self.environments(preparation.needs) if preparation.needs else []
        return [*needed, preparation.environment]

    def _output(self, preparation: Entry) -> Path:
        version = f"-{code_digest()}" if preparation.of_this_checkout else ""
        return self.folder / f"{preparation.name}{version}"

    def _make(self, preparation: Entry, needed: Path, output: Path) -> None:
        name, module = preparation.name, preparation.file.stem
        command = [str(interpreter(preparation.environment)), "-m", "benchmarks.preparations"]
        print(f"preparing {name} of {self.model}", file=sys.stderr, flush=True)
        part = output.with_name(f".{output.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            run_command(
                [*command, module, name, self.model, str(needed), str(part)],
                QUIET | {"PYTHONPATH": str(ROOT / "tests")},
            )
        except subprocess.TimeoutExpired as error:
            raise ContenderError(f"not prepared: {name} took too long") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
            raise ContenderError(f"not prepared: {name}: {lines[-1].strip()}"[:300]) from error
        part.rename(output)
