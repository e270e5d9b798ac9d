from __future__ import annotations

import platform
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

from embedrt.engine.cpu import CPUINFO
from embedrt.engine.session import clips_int8
from tiny_bundle import message, node, value

UINT8, INT8, INT32 = 2, 3, 6
EXACT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})

QEMU = shutil.which("qemu-x86_64")
X86_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.mark.parametrize("rows", [1, 5, 64])
def test_larger_products_behave_as_it_says(rows: int) -> None:
    """A product of a model's size, which may use another code path, gives the same answer."""
    random = np.random.default_rng(7)
    matrix = random.integers(100, 128, (384, 96), np.int8)
    left = random.integers(200, 256, (rows, 384), np.uint8)
    outline = message(
        (1, node("MatMulInteger", ["rows", "matrix"], "product")),
        (2, "larger"),
        (5, message((1, 384), (1, 96), (2, INT8), (8, "matrix"), (9, matrix.tobytes()))),
        (11, value("rows", UINT8, "n", 384)),
        (12, value("product", INT32, "n", 96)),
    )
    model = message((1, 8), (7, outline), (8, message((1, ""), (2, 17))))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (product,) = session.run(["product"], {"rows": left})
    exact = np.array_equal(product, left.astype(np.int32) @ matrix.astype(np.int32))
    assert clips_int8() is not exact


@pytest.mark.skipif(not X86_LINUX, reason="asks Linux for the flags of an x86")
def test_agrees_with_the_processors_flags() -> None:
    lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    assert clips_int8() is ("avx2" in flags and EXACT.isdisjoint(flags))


@pytest.mark.skipif(QEMU is None or not X86_LINUX, reason="needs qemu-user on Linux on x86")
@pytest.mark.parametrize(("processor", "clips"), [("Nehalem", False), ("Haswell", True)])
def test_other_processors_under_emulation(processor: str, clips: bool) -> None:
    code = "from embedrt.engine import session; print(session.clips_int8())"
    process = subprocess.run(
        [str(QEMU), "-cpu", processor, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert process.stdout == f"{clips}\n", process.stderr


@pytest.mark.skipif(platform.machine() not in {"aarch64", "arm64"}, reason="ARM")
def test_arm_does_not_clip() -> None:
    assert not clips_int8()
