"""Tests of what is chosen for a processor, on this one and on emulated ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module

import pytest

from embedrt.kernels.library import Library

AVX512, VNNI, BF16 = 1, 2, 4  # EMBEDRT_FEATURE_... in interface.h

ASK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.embedrt_path.restype = ctypes.c_char_p
print(library.embedrt_path(0))
"""


@pytest.mark.parametrize("masked", range(8))
def test_a_path_needs_its_features(library: Library, masked: int) -> None:
    fastest = library.path()
    if fastest is None:
        pytest.skip("this processor has no path")
    found = library.path(masked)
    if masked & (AVX512 | VNNI):
        assert found is None
    elif masked & BF16:
        assert found == "avx512-vnni"
    else:
        assert found == fastest


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
