"""Virtual environments, one for each file in ``environments/``, made at first use.

``python -m benchmarks.harness.environments`` describes the environment that runs it, in JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from benchmarks.checkout import FOLDER, code_digest, run_command
from benchmarks.harness.catalog import ContenderError

REQUIREMENTS = FOLDER / "environments"
ENVIRONMENTS = FOLDER / ".environments"
HARNESS = "harness"  # the interpreter that runs the harness
SIDE_BY_SIDE = 2  # environments or artifacts made in parallel; each keeps about one core busy
QUIET = {  # variables for everything that runs in an environment
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "true",  # the default; setting it avoids a warning
    "PYTHONDONTWRITEBYTECODE": "",
}
PACKAGES = """
    embedrt embedrt-kernels onnxruntime tokenizers numpy sentence-transformers transformers torch
    optimum-onnx onnx openvino nncf fastembed ctranslate2
""".split()
TOOLS = frozenset({"pip", "setuptools", "wheel"})
NATIVE = "./runtime/kernels"  # a requirement that is compiled
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True, slots=True)
class Installed:
    """The content of an environment."""

    versions: dict[str, str]
    """The versions of Python and of the installed `PACKAGES`."""
    installed_bytes: int
    """The size of all files, without pip and without compiled copies of Python files."""


def install(names: Iterable[str]) -> None:
    """Make these environments in parallel; `interpreter` raises their errors."""
    with ThreadPoolExecutor(SIDE_BY_SIDE) as executor:
        list(executor.map(_make, dict.fromkeys(name for name in names if name != HARNESS)))


def interpreter(name: str) -> Path:
    """Return the environment's Python, made if missing or outdated; may raise ContenderError."""
    if name == HARNESS:
        return Path(sys.executable)
    if reason := _make(name):
        raise ContenderError(reason)
    return ENVIRONMENTS / name / "bin" / "python"


@cache
def installed(name: str) -> Installed:
    """Return what the environment contains; raise ContenderError if it cannot be installed."""
    return Installed(**json.loads(run_command([str(interpreter(name)), "-m", __name__])))


def describe() -> Installed:
    """Return what the environment of this process contains."""
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


def has_compiler() -> bool:
    """Whether there is a C++ compiler: the one that CXX names, or a usual one."""
    named = os.environ.get("CXX")
    return any(map(shutil.which, shlex.split(named)[:1] if named else COMPILERS))


@cache
def _make(name: str) -> str:
    """Make the environment unless it is current; return the error message. Tries only once."""
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    # An environment depends on its file, and on embedrt's code if that is installed from the
    # checkout.
    text = requirements.read_text(encoding="utf-8")
    lines = text.splitlines()
    made_of = text + (code_digest() if "." in lines else "")
    stamp, wanted = folder / "stamp", hashlib.sha256(made_of.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return ""
    if NATIVE in lines and not has_compiler():
        return f"not installed: {name}: there is no C++ compiler"
    print(f"installing {requirements.name}", file=sys.stderr, flush=True)
    # PIP_ARGS as in the Makefile, for machines on which PyPI's torch installs CUDA.
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *extra]
    # Most modules are never imported; the others are compiled at their first import.
    pip += ["--no-compile", "--disable-pip-version-check"]
    try:
        run_command([sys.executable, "-m", "venv", str(folder)])
        run_command([*pip, "--requirement", str(requirements)])
    except (OSError, subprocess.SubprocessError) as error:
        # Of pip's output, the first line that is an error, otherwise the last.
        output = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        told = (output.strip() or str(error)).splitlines()
        reason = next((line for line in told if line.startswith("ERROR")), told[-1])
        return f"not installed: {name}: {reason.strip()}"
    stamp.write_text(wanted, encoding="utf-8")
    return ""


if __name__ == "__main__":
    print(json.dumps(asdict(describe())))
