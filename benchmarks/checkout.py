"""Where we are: the checkout, what its code is, and which machine this is."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.rows import Machine
from embedrt.engine.cpu import CPUINFO, available_threads, processor_name

ROOT = Path(__file__).parents[1]
MEASURED = ("pyproject.toml", "runtime", "export", "models")
SUFFIXES = frozenset({".py", ".toml", ".txt"})
TELLING_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)


@cache
def code_digest() -> str:
    """Digest of embedrt's sources, of which its environment and bundles are made."""
    digest = hashlib.sha256()
    for path in sorted(file for name in MEASURED for file in _files(ROOT / name)):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def commit() -> str:
    """The commit, and the code's digest where something is changed that is not committed."""
    head = _git("rev-parse", "--short=12", "HEAD") or "no-commit"
    changed = _git("status", "--porcelain", "--", *MEASURED)
    return f"{head}+{code_digest()}" if changed or head == "no-commit" else head


@cache
def describe_machine() -> Machine:
    """Describe what the figures depend on besides the software."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    fields = {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return Machine(
        processor=processor_name(),
        instruction_sets=tuple(flag for flag in TELLING_FLAGS if flag in flags),
        cores=available_threads(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        platform=platform.platform(),
    )


def _files(path: Path) -> list[Path]:
    found = path.rglob("*") if path.is_dir() else [path]
    return [file for file in found if file.suffix in SUFFIXES and "__pycache__" not in file.parts]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            encoding="utf-8",
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
