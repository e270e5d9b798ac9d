"""Tests of what is chosen for a processor, on this one and on emulated ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from embedrt.kernels.library import Library

AVX512, VNNI, BF16, AMX, FAST_BF16 = 1, 2, 4, 8, 16  # EMBEDRT_FEATURE_... in interface.h
CPUINFO = Path("/proc/cpuinfo")
IS_AMD = CPUINFO.is_file() and "AuthenticAMD" in CPUINFO.read_text(encoding="utf-8")

ASK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.embedrt_path.restype = ctypes.c_char_p
print(library.embedrt_path(0))
"""

# From here on, the system calls arch_prctl(ARCH_REQ_XCOMP_PERM, ...) of the process fail.
REFUSE = """
import ctypes, struct
steps = [  # code, jump if true, jump if false, number
    (0x20, 0, 0, 0),  # load the number of the call
    (0x15, 0, 3, 158),  # not arch_prctl: allow
    (0x20, 0, 0, 16),  # load its first argument
    (0x15, 0, 1, 0x1023),  # not ARCH_REQ_XCOMP_PERM: allow
    (0x06, 0, 0, 0x00050001),  # fail with EPERM
    (0x06, 0, 0, 0x7FFF0000),  # allow
]
memory = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(memory)))
prctl = ctypes.CDLL(None).prctl
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2
assert prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
assert prctl(SECCOMP, FILTER, program, 0, 0) == 0
assert ctypes.CDLL(None).syscall(158, 0x1023, 18) == -1
"""


@pytest.mark.parametrize("masked", range(32))
def test_a_path_needs_its_features(library: Library, masked: int) -> None:
    fastest = library.path()
    if fastest is None:
        pytest.skip("this processor has no path")
    found = library.path(masked)
    if masked & (AVX512 | VNNI):
        assert found is None
    elif fastest == "amx-int8" and not masked & (BF16 | AMX):
        assert found == fastest
    elif IS_AMD and fastest != "avx512-vnni" and not masked & (BF16 | FAST_BF16):
        assert found == "avx512-bf16"
    else:
        assert found == "avx512-vnni"


def test_a_system_that_refuses_the_tiles_of_amx(library: Library) -> None:
    """The next path runs; on a processor without AMX, that is the fastest anyway."""
    file = import_module("embedrt_kernels").library()
    command = [sys.executable, "-I", "-S", "-c", REFUSE + ASK, str(file)]
    child = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    expected = library.path(AMX)
    assert child.stdout.strip() == str(expected and expected.encode())


@pytest.mark.parametrize("processor", ["Nehalem", "SandyBridge", "Haswell", "max"])
def test_no_illegal_instruction_without_avx512(processor: str) -> None:
    """QEMU emulates no AVX-512, so that each of these processors must be refused."""
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed (apt install qemu-user)")
    library = import_module("embedrt_kernels").library()
    command = [emulator, "-cpu", processor, sys.executable, "-I", "-S", "-c", ASK, str(library)]
    child = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert (child.returncode, child.stdout.strip()) == (0, "None"), child.stderr
