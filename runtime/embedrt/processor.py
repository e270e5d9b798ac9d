"""What this machine's processor can do, as far as it decides how int8 must run.

x86 multiplies uint8 by int8 exactly only with VNNI or AMX. Older processors add two products in 16
bits and silently clip the sum; there the weights must be made uint8 at load, which is slower and
exact. ARM has instructions of its own and needs nothing.
"""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
EXACT = frozenset({"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8"})


def clips_int8(machine: str = "", cpuinfo: Path = CPUINFO) -> bool:
    """Whether uint8 x int8 products may be clipped here. True where an x86 does not tell."""
    if (machine or platform.machine()).lower() not in X86:
        return False
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return True
    flags = next((line for line in lines if line.startswith("flags")), "")
    return EXACT.isdisjoint(flags.partition(":")[2].split())
