"""The checkout: its path, the version of its code, and commands that run in it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
CALIBRATION = ROOT / "export" / "embedrt_export" / "int8" / "calibration.txt"
MEASURED = ("pyproject.toml", "runtime", "export", "models")
SUFFIXES = frozenset({".py", ".toml", ".txt", ".cpp", ".h"})


@cache
def code_digest() -> str:
    """Return the digest of embedrt's sources, from which its environment and bundles are built."""
    digest = hashlib.sha256()
    files = (file for name in MEASURED for file in (ROOT / name, *(ROOT / name).rglob("*")))
    for path in sorted(file for file in files if file.suffix in SUFFIXES):
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def commit() -> str:
    """Return the commit, followed by the digest of the code if it has uncommitted changes."""
    head = _git("rev-parse", "--short=12", "HEAD") or "no-commit"
    changed = _git("status", "--porcelain", "--", *MEASURED)
    return f"{head}+{code_digest()}" if changed or head == "no-commit" else head


def run_command(command: Sequence[str], variables: Mapping[str, str] = {}) -> str:
    """Run a command in the checkout, with additional environment variables; return its output.

    Raises OSError or SubprocessError if the command cannot be started, fails, or takes more than
    half an hour.
    """
    return subprocess.run(  # noqa: S603
        command,
        cwd=ROOT,
        env=os.environ | dict(variables),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=1800,
    ).stdout


def _git(*arguments: str) -> str:
    try:
        return run_command(["git", *arguments]).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
