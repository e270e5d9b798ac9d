"""Memory use of this process, as Linux reports it; None on other systems."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes() -> int | None:
    """Return the current resident memory of this process."""
    return _field("VmRSS")


def peak_bytes() -> int | None:
    """Return the peak resident memory of this process."""
    return _field("VmHWM")


def private_bytes() -> int | None:
    """Return the memory that belongs to this process alone: without mapped files."""
    return _field("RssAnon")


def _field(name: str) -> int | None:
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(values[0]) * 1024 if values else None  # the kernel counts in kB
