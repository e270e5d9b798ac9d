"""The number of cores that this process may use, and the name of the processor.

ONNX Runtime's default is the number of physical cores. It ignores the affinity mask and the CPU
quota of a container, so that a one-core container runs a thread pool for the whole host.
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
    """Return the processor's model name."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def available_threads() -> int:
    """Return the cores that the affinity mask and the cgroup CPU quota allow, at least 1."""
    affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if affinity else os.cpu_count() or 1
    quota = cgroup_cpu_quota()
    return min(allowed, math.ceil(quota)) if quota else allowed


def cgroup_cpu_quota(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> float | None:
    """Return the smallest CPU quota, in cores, of this process's cgroup and its ancestors.

    Reads ``cpu.max`` of cgroup v2 and ``cpu.cfs_quota_us`` of v1. Returns None without a quota.
    """
    quotas = [
        quota
        for folder in _cgroup_folders(root, membership)
        for quota in (_quota_v2(folder), _quota_v1(folder))
        if quota is not None
    ]
    return min(quotas, default=None)


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    """Return the folders of this process's cgroups and of all their ancestors, v1 and v2."""
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
        # In v1, the folder's name may list the controllers in another order; "cpu" links to it.
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
