"""Tests of the commands that measure both engines, on the real bundle."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from benchmarks.checkout import ROOT
from embedrt.engine.cpu import available_threads
from embedrt.kernels.library import Library


def output_of(*arguments: str | Path) -> str:
    """Return what a command of the benchmarks prints."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        check=True, cwd=ROOT, capture_output=True, text=True, encoding="utf-8",
    ).stdout  # fmt: skip


def number(shown: str) -> float:
    return float(shown.replace(",", ""))


@pytest.fixture
def engines(library: Library) -> list[str]:
    """How the names of both engines begin; skips if this processor has no path."""
    path = library.path()
    if path is None:
        pytest.skip("this processor has no path")
    return ["ONNX Runtime", f"kernels {path}"]


def test_roofline_has_both_engines(minilm_int8: Path, engines: list[str]) -> None:
    text = output_of("benchmarks.roofline", minilm_int8)
    limits = dict(re.findall(r"(?m)^(\d+) thread\(s\): (.*) from registers", text))
    assert re.match(r"FP32 \S+ GOP/s, VNNI \S+ GOP/s", limits["1"])
    found = re.findall(
        r"(?m)^  (\S.*?) +(\d+) +([\d.]+) +([\d.,]+) GOP/s +(\d+)% of (VNNI|AMX)$", text
    )
    counts = sorted({1, available_threads()})
    assert [int(threads) for _, threads, *_ in found] == [n for n in counts for _ in engines] * 3
    for row, (name, threads, milliseconds, rate, share, peak) in enumerate(found):
        assert name.startswith(engines[row % 2])
        assert float(milliseconds) > 0
        assert number(rate) > 1
        # Other work on the machine may slow either measurement, but not what divides them.
        (most,) = re.findall(rf"{peak} (\S+) GOP/s", limits[threads])
        assert int(share) == pytest.approx(100 * number(rate) / number(most), rel=0.02, abs=1)


@pytest.mark.parametrize(("use", "which"), [("off", 0), ("require", 1)])
def test_memory_of_an_engine(minilm_int8: Path, engines: list[str], use: str, which: int) -> None:
    text = output_of("benchmarks.engine", minilm_int8, "--only", "memory", "--kernels", use)
    assert text.startswith(engines[which])
    assert re.search(r"\| peak of load and 1,000 texts \| \d+ MB \|", text)
