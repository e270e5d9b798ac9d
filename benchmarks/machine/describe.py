"""The machine of a measurement: processor, cores, memory, operating system."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache

from embedrt.engine.cpu import CPUINFO, available_threads, processor_name

INSTRUCTION_SETS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """The properties of a machine that figures depend on."""

    processor: str
    instruction_sets: tuple[str, ...]
    """The supported `INSTRUCTION_SETS`, on which the speed of matrix products depends."""
    cores: int
    """The cores that the process may use, by its affinity mask and CPU quota."""
    memory_bytes: int
    platform: str


@cache
def describe_machine() -> Machine:
    """Describe this machine."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    fields = {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return Machine(
        processor=processor_name(),
        instruction_sets=tuple(flag for flag in INSTRUCTION_SETS if flag in flags),
        cores=available_threads(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        platform=platform.platform(),
    )
