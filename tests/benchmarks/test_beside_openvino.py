"""Tests of the comparison with OpenVINO, from rows with known figures."""

from __future__ import annotations

import pytest

from benchmark_rows import row
from benchmarks.beside_openvino import KERNELS, MEASURED, table
from benchmarks.harness.catalog import contenders
from benchmarks.harness.rows import Row
from benchmarks.report.results import Results

OURS = row(KERNELS, "corpus", 0.5), row("embedrt int8", "corpus", 1.0)
INT8, BF16 = row("openvino int8 (nncf)", "corpus", 1.5), row("openvino bf16", "corpus", 1.25)
MISSING = row(KERNELS, "corpus", measure="", unit="", error="not installed: no compiler")


def test_all_contenders_exist() -> None:
    assert set(MEASURED) <= set(contenders())


@pytest.mark.parametrize(
    ("rows", "last"),
    [
        ((*OURS, INT8, BF16), f"{KERNELS}: 2.50 times as fast as openvino bf16"),
        ((*OURS, INT8), f"{KERNELS}: 3.00 times as fast as openvino int8 (nncf)"),
        ((OURS[1], INT8, MISSING), f"{KERNELS} not installed: no compiler"),
    ],
)
def test_the_last_line(rows: tuple[Row, ...], last: str) -> None:
    lines = table(Results.of(rows))
    assert lines[-1] == last
    assert any(line.startswith("| **embedrt int8** | 100 |") for line in lines)
    assert any("A Processor, 2 cores" in line for line in lines)
