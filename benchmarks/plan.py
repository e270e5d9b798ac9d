"""Which work there is, in the order in which it is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.contenders import Purpose

Kind = Literal[
    "each",
    "spaced",
    "call",
    "concurrent",
    "startup",
    "memory",
    "size",
    "stsb",
    "beir",
    "cosine",
    "same bytes",
]

MAIN_MODEL = "all-MiniLM-L6-v2"
FULL_SIZE_MODELS = ("all-mpnet-base-v2", "multi-qa-distilbert-cos-v1")
LENGTHS = (8, 16, 32, 64, 128, 256)
QUICK_CONTENDERS = (
    *("embedrt fp32", "embedrt int8", "sentence-transformers fp32", "sentence-transformers bf16"),
    *("openvino f32", "openvino bf16", "openvino int8 (nncf)", "onnxruntime dynamic int8"),
)


@dataclass(frozen=True)
class Workload:
    """One kind of work on one set of texts."""

    id: str
    kind: Kind
    """How it is measured: the name of a function in ``measure.py``."""
    texts: str
    """Key of the texts: see ``texts.py``."""
    repetitions: int = 1
    """Counted ones; one more comes first, to warm up, where time is measured."""
    purpose: Purpose = "throughput"
    count: int = 1
    """Threads that call at once; blocks of texts where memory is measured."""


def full_plan(model: str, *, beir: bool) -> list[Workload]:
    """All that is measured; of models with random weights, only speed."""
    if model != MAIN_MODEL:
        return [*_latency((16, 64, 256), 3), Workload("corpus", "call", "mixed/64", 3)]
    return [
        *_latency(LENGTHS, 10),
        *_spaced(),
        Workload("startup", "startup", "exact/16", 5, "latency"),
        *(Workload(f"batch/{count}", "call", f"mixed/{count}", 9) for count in (8, 32, 128)),
        Workload("corpus", "call", "mixed/400", 7),
        *(
            Workload(f"concurrent/{count}", "concurrent", "sentences/64", 5, count=count)
            for count in (1, 2, 4, 8)
        ),
        *(
            Workload(f"growth/texts/{count}", "call", f"sentences/{count}", 3)
            for count in (1, 10, 100, 1000)
        ),
        *(Workload(f"growth/tokens/{count}", "call", f"exact16/{count}", 3) for count in LENGTHS),
        Workload("size", "size", "exact/16"),
        *_quality(same_bytes=256),
        Workload("memory", "memory", "block", count=10),
        *([Workload("quality/scifact", "beir", "beir")] if beir else []),
    ]


def quick_plan(model: str, *, beir: bool) -> list[Workload]:
    """Enough to see where we stand."""
    if model != MAIN_MODEL:
        return []
    return [
        *_latency((16, 64, 256), 2),
        Workload("startup", "startup", "exact/16", 2, "latency"),
        Workload("corpus", "call", "mixed/100", 5),
        Workload("size", "size", "exact/16"),
        *_quality(same_bytes=64),
        Workload("memory", "memory", "block"),
        *([Workload("quality/scifact", "beir", "beir")] if beir else []),
    ]


def _latency(lengths: tuple[int, ...], repetitions: int) -> Iterator[Workload]:
    for tokens in lengths:
        yield Workload(f"latency/{tokens}", "each", f"exact/{tokens}", repetitions, "latency")


def _spaced() -> Iterator[Workload]:
    for tokens in (16, 64, 256):
        yield Workload(f"spaced/{tokens}", "spaced", f"exact/{tokens}", 2, "latency")


def _quality(same_bytes: int) -> Iterator[Workload]:
    yield Workload("quality/stsb", "stsb", "sentences/")
    yield Workload("quality/cosine", "cosine", "sentences/")
    yield Workload("quality/same bytes", "same bytes", f"mixed/{same_bytes}")
