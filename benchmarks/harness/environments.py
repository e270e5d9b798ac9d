"""Virtual environments, one for each file in ``environments/``, made at their first use.

``python -m benchmarks.harness.environments`` describes the environment that runs it, in JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from benchmarks.checkout import FOLDER, code_digest, run_command
from benchmarks.harness.errors import ContenderError

REQUIREMENTS = FOLDER / "environments"
ENVIRONMENTS = FOLDER / ".environments"
HARNESS = "harness"  # the interpreter that runs this
INSTALL_SECONDS = 1800
SIDE_BY_SIDE = 2  # environments or artifacts made at once; each keeps about one core busy
QUIET = {  # variables for everything that runs in an environment
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "true",  # the default, set to avoid the warning about it
    "PYTHONDONTWRITEBYTECODE": "",
}
PACKAGES = """
    embedrt onnxruntime tokenizers numpy sentence-transformers transformers torch optimum-onnx onnx
    openvino nncf fastembed ctranslate2
""".split()
TOOLS = frozenset({"pip", "setuptools", "wheel"})


@dataclass(frozen=True, slots=True)
class Installed:
    """The content of an environment."""

    versions: dict[str, str]
    """Of Python and of those of `PACKAGES` that are installed."""
    installed_bytes: int
    """Size of all files, without pip and without compiled copies of Python files."""


def install(names: Iterable[str]) -> None:
    """Make these environments side by side; `interpreter` raises the errors."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        list(executor.map(_make, dict.fromkeys(name for name in names if name != HARNESS)))


def interpreter(name: str) -> Path:
    """Path of the environment's Python. Missing and outdated environments are made first.

    ContenderError says that the environment cannot be installed.
    """
    if name == HARNESS:
        return Path(sys.executable)
    if reason := _make(name):
        raise ContenderError(reason)
    return ENVIRONMENTS / name / "bin" / "python"


@cache
def installed(name: str) -> Installed:
    """What the environment contains; ContenderError if it cannot be installed."""
    return Installed(**json.loads(_run([str(interpreter(name)), "-m", __name__])))


def describe() -> Installed:
    """What the environment of this process contains."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    files = {
        Path(str(file.locate()))
        for distribution in metadata.distributions()
        if distribution.metadata["Name"].lower() not in TOOLS
        for file in distribution.files or ()
        if file.suffix != ".pyc"
    }
    return Installed(versions, sum(file.stat().st_size for file in files if file.is_file()))


@cache
def _make(name: str) -> str:
    """Make the environment unless it is up to date; return what failed. Nothing is tried twice."""
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    stamp, wanted = folder / "stamp", _stamp(requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return ""
    print(f"installing {requirements.name}", file=sys.stderr, flush=True)
    # PIP_ARGS as in the Makefile, for machines on which PyPI's torch brings CUDA.
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *extra]
    # Most modules are never imported; the others are compiled by their first import.
    pip += ["--no-compile", "--disable-pip-version-check"]
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([*pip, "--requirement", str(requirements)])
    except (OSError, subprocess.SubprocessError) as error:
        # Of pip's output, the first line that is an error, else the last.
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        return f"not installed: {name}: {reason.strip()}"
    stamp.write_text(wanted)
    return ""


def _stamp(requirements: Path) -> str:
    """Digest of the requirements, and of embedrt's code if they install it."""
    text = requirements.read_text(encoding="utf-8")
    own = code_digest() if "." in text.splitlines() else ""
    return hashlib.sha256((text + own).encode()).hexdigest()


def _run(command: list[str]) -> str:
    return run_command(command, timeout=INSTALL_SECONDS)


if __name__ == "__main__":
    print(json.dumps(asdict(describe())))
