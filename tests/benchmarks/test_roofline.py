"""Tests of the machine's limits, and of the work of single operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from benchmarks.machine.limits import Limits, measure_limits
from benchmarks.roofline import Profile, profile_of, shares, table, work_of
from embedrt import Bundle

LIMITS = Limits(threads=1, fp32=100e9, int8=400e9, memory=10e9)


def event(
    operator: str, microseconds: int, inputs: list[Any], output: list[int], **sizes: int
) -> Any:
    """Return a node as ONNX Runtime's profiler reports it."""
    return {
        "dur": microseconds,
        "args": {
            "op_name": operator,
            "input_type_shape": [{"float": shape} for shape in inputs],
            "output_type_shape": [{"float": output}],
            **{name: str(size) for name, size in sizes.items()},
        },
    }


GEMM = event("Gemm", 100, [[10, 20], [30]], [10, 30])  # its packed weights are not reported
ADD = event("Add", 100, [[10], [10]], [10], output_size=40, activation_size=80)


@pytest.mark.parametrize(
    ("node", "limit", "work"),
    [
        (GEMM, "fp32", 2 * 10 * 20 * 30),
        (event("MatMul", 1, [[2, 4, 8], [8, 5]], [2, 4, 5]), "fp32", 2 * 2 * 4 * 8 * 5),
        (event("MatMulIntegerToFloat", 1, [[10, 20], [], []], [10, 30]), "int8", 12_000),
        (event("Attention", 1, [[2, 16, 64]] * 3, [2, 16, 64]), "fp32", 2 * 2 * 2 * 16 * 16 * 64),
        (event("Attention", 1, [[2, 4, 16, 32]] * 3, [2, 4, 16, 32]), "fp32", 262_144),
        (ADD, "memory", 120),
        (
            event("Gather", 1, [[9999, 384], [16]], [16, 384], output_size=24_576,
                  activation_size=128), "memory", 49_152,
        ),
        (event("Reshape", 1, [[16, 384]], [384, 16], output_size=9, activation_size=9), "", 0),
    ],
)  # fmt: skip
def test_work_of_one_node(node: Any, limit: str, work: float) -> None:
    assert work_of(node) == (limit, work)


def test_shares_of_two_runs() -> None:
    first, second = shares([[GEMM, ADD, GEMM], [GEMM, ADD, GEMM]], LIMITS)
    assert (first.operator, first.nodes) == ("Gemm", 2)
    assert first.seconds == pytest.approx(200e-6)
    assert first.share == pytest.approx(2 / 3)
    assert first.work == 24_000
    assert first.reached == pytest.approx(24_000 / 200e-6 / 100e9)
    assert second.limit == "memory"
    assert second.reached == pytest.approx(120 / 100e-6 / 10e9)


def test_small_operators_are_summed_in_the_table() -> None:
    tiny = event("Cast", 1, [[1]], [1], output_size=4, activation_size=4)
    slow = event("Gemm", 1000, [[1000, 100], [50]], [1000, 50])
    found = tuple(shares([[slow, tiny, tiny]], LIMITS))
    lines = list(table(Profile("a bundle", 1, 16, 1, 1.002e-3, found)))
    assert lines[0] == "a bundle, 1 x 16 tokens, 1 thread(s): 1.00 ms, 10% of the limit"
    assert lines[2].split() == ["Gemm", "1", "1.000", "99.8%", "10.0", "GOP/s", "10%", "of", "fp32"]
    assert lines[3].split() == ["1", "others", "2", "0.002", "0.2%"]


@pytest.mark.slow
def test_a_real_bundle(minilm: Path) -> None:
    limits = {1: measure_limits(1)}
    assert min(limits[1].fp32, limits[1].int8, limits[1].memory) > 1e9
    ids = np.full((16, 64), 1000)
    profile = profile_of(Bundle.open(minilm), ids, limits)
    assert (profile.texts, profile.tokens) == (16, 64)
    assert sum(share.share for share in profile.shares) == pytest.approx(1)
    assert 0 < profile.reached <= 1
    (gemm,) = [share for share in profile.shares if share.operator == "Gemm"]
    assert gemm.work == 6 * 2 * ids.size * 384 * (3 * 384 + 384 + 2 * 1536)
    assert gemm.nodes == 24
