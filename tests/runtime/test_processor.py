from __future__ import annotations

from pathlib import Path

import pytest

from embedrt.processor import clips_int8

SANDY = "processor\t: 0\nflags\t\t: fpu sse2 avx\n"
HASWELL = "processor\t: 0\nflags\t\t: fpu sse2 avx avx2 fma\n"
SKYLAKE = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512bw\n"
CASCADE_LAKE = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n"
ALDER_LAKE = "processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n"
SAPPHIRE_RAPIDS = "processor\t: 0\nflags\t\t: fpu avx512_vnni amx_tile amx_int8\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "clips"),
    [
        ("x86_64", SANDY, True),
        ("x86_64", HASWELL, True),
        ("AMD64", SKYLAKE, True),
        ("x86_64", CASCADE_LAKE, False),
        ("x86_64", ALDER_LAKE, False),
        ("x86_64", SAPPHIRE_RAPIDS, False),
        ("aarch64", GRAVITON, False),
        ("arm64", "", False),
        ("x86_64", "", True),
    ],
)
def test_known_processors(machine: str, cpuinfo: str, clips: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    assert clips_int8(machine, file) is clips


def test_an_x86_that_does_not_tell_is_treated_as_old(tmp_path: Path) -> None:
    assert clips_int8("x86_64", tmp_path / "missing")
