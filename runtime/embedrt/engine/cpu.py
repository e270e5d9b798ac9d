"""What this machine's processor can do, and how many of its cores this process may use.

ONNX Runtime multiplies uint8 by int8 exactly on ARM and on x86 with VNNI or AMX. Its kernels for
AVX2 and AVX-512 without those add two products in 16 bits and silently clip the sum; there the
weights must be made uint8 at load, which is slower and exact.

Which kernel is taken is not read off the processor's flags, which no system but Linux shows in a
file and which an emulator shows of its host: one small product tells.

ONNX Runtime's own default counts physical cores and ignores both the affinity mask and the
container's quota, which makes a one-core container run a pool for the whole host.
"""

from __future__ import annotations

import math
import os
import platform
from functools import cache
from pathlib import Path

import numpy as np

CPUINFO = Path("/proc/cpuinfo")  # names the processor on Linux
ROWS, INPUTS, COLUMNS = 8, 4, 4
LARGEST_UINT8, LARGEST_INT8 = 255, 127
# Numbers of ONNX's tensor types.
UINT8, INT8, INT32 = 2, 3, 6


def processor_name() -> str:
    """As people know it."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def clips_int8() -> bool:
    """Whether ONNX Runtime clips uint8 x int8 products here. Takes a few milliseconds, once."""
    # Here, because session.py must set ONNX Runtime's environment before any import of it.
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        _largest_product(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    rows = np.full((ROWS, INPUTS), LARGEST_UINT8, np.uint8)
    (product,) = session.run(["product"], {"rows": rows})
    return bool((product != INPUTS * LARGEST_UINT8 * LARGEST_INT8).any())


def _largest_product() -> bytes:
    """Rows of uint8 times a matrix of the largest int8, as ONNX; fields as in ``onnx.proto``."""
    matrix = (
        _number(1, INPUTS),
        _number(1, COLUMNS),
        _number(2, INT8),
        _content(8, b"matrix"),
        _content(9, bytes([LARGEST_INT8]) * (INPUTS * COLUMNS)),
    )
    node = (
        _content(1, b"rows"),
        _content(1, b"matrix"),
        _content(2, b"product"),
        _content(4, b"MatMulInteger"),
    )
    graph = (
        _content(1, *node),
        _content(2, b"g"),
        _content(5, *matrix),
        _content(11, _content(1, b"rows"), _tensor(UINT8, ROWS, INPUTS)),
        _content(12, _content(1, b"product"), _tensor(INT32, ROWS, COLUMNS)),
    )
    opset = (_content(1, b""), _number(2, 17))
    return _number(1, 8) + _content(7, *graph) + _content(8, *opset)


def _tensor(kind: int, *sizes: int) -> bytes:
    shape = (_content(1, _number(1, size)) for size in sizes)
    return _content(2, _content(1, _number(1, kind), _content(2, *shape)))


def _number(field: int, value: int) -> bytes:
    """A protobuf field with a number below 128."""
    return bytes([field << 3, value])


def _content(field: int, *parts: bytes) -> bytes:
    """A protobuf field with fewer than 16,384 bytes, in two groups of seven bits."""
    content = b"".join(parts)
    return bytes([field << 3 | 2, len(content) & 127 | 128, len(content) >> 7]) + content


CGROUP_ROOT = Path("/sys/fs/cgroup")
SELF_CGROUP = Path("/proc/self/cgroup")


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
