"""What this process may use of its machine: how many cores, and what they are called.

ONNX Runtime's own default counts physical cores and ignores both the affinity mask and the
container's quota, which makes a one-core container run a pool for the whole host.
"""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # names the processor on Linux
CGROUP_ROOT = Path("/sys/fs/cgroup")
SELF_CGROUP = Path("/proc/self/cgroup")


def processor_name() -> str:
    """As people know it."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_threads() -> int:
    """Cores that the affinity mask and the cgroup CPU quota leave to this process, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = cgroup_cpu_quota()
    return max(1, min(allowed or 1, math.ceil(quota) if quota else allowed or 1))


def cgroup_cpu_quota(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> float | None:
    """Return the tightest CPU quota in cores on the way from this process's cgroup up to the root.

    Reads ``cpu.max`` of cgroup v2 and ``cpu.cfs_quota_us`` of v1; None where there is no quota.
    """
    quotas = [
        quota
        for folder in _cgroup_folders(root, membership)
        for quota in (_quota_v2(folder), _quota_v1(folder))
        if quota is not None
    ]
    return min(quotas, default=None)


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """Every folder that may hold a quota of ours: our cgroup's and its parents', v1 and v2."""
    folders = [root, root / "cpu", root / "cpu,cpuacct"]
    try:
        lines = membership.read_text(errors="surrogateescape", encoding="utf-8").splitlines()
    except OSError:
        return folders
    for line in lines:
        _, _, fields = line.partition(":")
        controllers, _, path = fields.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # The folder of v1 need not list its controllers in the same order, but "cpu" leads to it.
        bases = [root / controllers, root / "cpu"] if controllers else [root]
        relative = Path(path.lstrip("/"))
        folders += [base / parent for base in bases for parent in (relative, *relative.parents)]
    return folders


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
