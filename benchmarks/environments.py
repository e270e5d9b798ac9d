"""Virtual environments, one for each file in ``environments/``, made when first needed."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.checkout import ROOT, code_digest
from benchmarks.failure import ContenderError

REQUIREMENTS = Path(__file__).parent / "environments"
FOLDER = Path(__file__).parent / ".environments"
HARNESS = "harness"  # the interpreter that runs this
INSTALL_SECONDS = 1800
SIDE_BY_SIDE = 2  # environments and artifacts; each keeps about one core busy


@dataclass(frozen=True)
class Installed:
    """What is in an environment."""

    versions: dict[str, str]
    installed_bytes: int


def install(names: Iterable[str]) -> None:
    """Make these environments side by side; `interpreter` tells what went wrong with one."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        list(executor.map(_make, dict.fromkeys(name for name in names if name != HARNESS)))


def interpreter(name: str) -> Path:
    """The environment's Python; the environment is made if it is not there or is out of date.

    Raises
    ------
    ContenderError
        It cannot be installed.
    """
    if name == HARNESS:
        return Path(sys.executable)
    if reason := _make(name):
        raise ContenderError(reason)
    return FOLDER / name / "bin" / "python"


@cache
def versions(name: str) -> dict[str, str]:
    """Versions of what matters in the environment."""
    return _describe(name).versions


def installed_bytes(name: str) -> int:
    """Size of all that is installed there, without pip and compiled copies of Python files."""
    return _describe(name).installed_bytes


@cache
def _make(name: str) -> str:
    """Make the environment unless it is there and up to date; tell what went wrong, once."""
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = FOLDER / name
    stamp, wanted = folder / "stamp", _stamp(requirements)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return ""
    print(f"installing {requirements.name}", file=sys.stderr, flush=True)
    # PIP_ARGS as in the Makefile, for machines on which PyPI's torch brings CUDA.
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *extra]
    # Most of what would be compiled is never imported; what is, is compiled by its first import.
    pip += ["--no-compile", "--disable-pip-version-check"]
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([*pip, "--requirement", str(requirements)])
    except (OSError, subprocess.SubprocessError) as error:
        return f"not installed: {name}: {_reason(error)}"
    stamp.write_text(wanted, encoding="utf-8")
    return ""


@cache
def _describe(name: str) -> Installed:
    described = json.loads(_run([str(interpreter(name)), "-m", "benchmarks.describe"]))
    return Installed(described["versions"], described["bytes"])


def _stamp(requirements: Path) -> str:
    """What the environment is made of: its file, and our own code where that is installed."""
    text = requirements.read_text(encoding="utf-8")
    own = code_digest() if "." in text.splitlines() else ""
    return hashlib.sha256((text + own).encode()).hexdigest()


def _run(command: list[str]) -> str:
    return subprocess.run(  # noqa: S603
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=INSTALL_SECONDS,
        encoding="utf-8",
    ).stdout


def _reason(error: Exception) -> str:
    """What pip said last, where it said anything."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
    lines = [line.strip() for line in (said or "").splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("ERROR")), (lines or [str(error)])[-1])
