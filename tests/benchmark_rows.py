"""Benchmark rows with figures that can be verified by hand."""

from __future__ import annotations

from typing import Any

from benchmarks import MAIN_MODEL
from benchmarks.harness.rows import Row
from benchmarks.machine.describe import Machine

MACHINE = Machine("A Processor", ("avx2",), 2, 8 * 2**30, "an-os")
PARTS = ("python", "import", "load", "first vector")

# Seconds for the corpus of 100 texts.
CORPUS = {
    "embedrt int8": 1.0,
    "embedrt fp32": 4.0,
    "sentence-transformers fp32": 8.0,
    "sentence-transformers bf16": 2.5,
    "openvino f32": 5.0,
    "openvino bf16": 2.0,
    "openvino int8 (nncf)": 1.5,
    "onnxruntime dynamic int8": 1.6,
    "torch.compile bf16": 0.5,
}


def row(contender: str, workload: str, *values: float, **facts: Any) -> Row:
    """Return a row of the main model: seconds for 100 texts of 10 tokens, unless overridden."""
    usual: dict[str, Any] = {
        "model": MAIN_MODEL,
        "measure": "seconds",
        "unit": "seconds",
        "texts": 100,
        "tokens": 1000,
        "machine": MACHINE,
        "versions": {"python": "3.11.7", "onnxruntime": "1.31.1"},
        "commit": "abc1234",
    }
    return Row(contender=contender, workload=workload, values=values, **{**usual, **facts})


def run_rows() -> list[Row]:
    """Return rows for the whole report, with the contenders in `CORPUS` and a failing one."""
    rows = [row("fastembed", "corpus", measure="", unit="", error="hung: no | answer in 60 s")]
    for name, seconds in CORPUS.items():
        rows += [
            row(name, "corpus", seconds * 1.5, seconds, seconds * 0.9),
            *(
                row(name, f"latency/{tokens}", *(seconds * tokens / 1e4 for _ in range(20)))
                for tokens in (8, 16, 64, 256)
            ),
            row(name, "spaced/16", seconds / 40),
            row(name, "batch/8", seconds / 10, texts=8),
            row(name, "concurrent/2", seconds),
            row(name, "concurrent/2", seconds / 50, measure="latency"),
            row(name, "growth/texts/10", seconds / 10),
            row(name, "growth/tokens/64", seconds / 20),
            *(row(name, "startup", seconds / 4, measure=part) for part in PARTS),
            row(name, "startup", seconds, measure="total"),
            row(name, "memory", 1e8, 1.1e8, measure="curve", unit="bytes", texts=2000),
            row(name, "memory", 1.2e8, measure="peak 1000 texts", unit="bytes"),
            row(name, "size", 2.4e7, measure="bundle", unit="bytes"),
            row(name, "quality/stsb", 82.0, measure="spearman", unit="points"),
            row(name, "quality/cosine", 0.999, measure="mean", unit=""),
            row(name, "quality/same bytes", 1.0, measure="share", unit=""),
        ]
    return [*rows, row("embedrt int8", "corpus", 3.0, model="all-mpnet-base-v2")]
