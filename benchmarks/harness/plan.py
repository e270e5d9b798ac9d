"""The workloads of a run, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import MAIN_MODEL
from benchmarks.contenders import Purpose
from benchmarks.models import LONG_MODELS, LONGEST

LENGTHS = (8, 16, 32, 64, 128, 256)
QUICK_CONTENDERS = (
    *("embedrt fp32", "embedrt int8", "embedrt int8 with kernels"),
    *("sentence-transformers fp32", "sentence-transformers bf16"),
    *("openvino f32", "openvino bf16", "openvino int8 (nncf)", "onnxruntime dynamic int8"),
)
# The kernels do not run the families of the models for long texts.
LONG_CONTENDERS = ("embedrt fp32", "embedrt int8", "sentence-transformers fp32")


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work on one set of texts."""

    id: str
    kind: str
    """How the workload is measured: a key of `benchmarks.harness.measuring.KINDS`."""
    texts: str
    """The key of the texts, for `benchmarks.harness.texts.texts_of`; empty if it has none there."""
    repetitions: int = 1
    """The repetitions that count; timed work is done once before them as a warm-up."""
    purpose: Purpose = "throughput"
    count: int = 1
    """The number of concurrent threads, or of blocks of texts if memory is measured."""

    @property
    def keys(self) -> list[str]:
        """The keys of all its texts."""
        if self.kind == "memory":
            return [f"{self.texts}/{number}" for number in range(self.count)]
        return [self.texts] if self.texts else []


def full_plan(model: str, *, beir: bool) -> list[Workload]:
    """Return every workload; for models with random weights, only those that measure speed."""
    if model in LONG_MODELS:
        return [
            Workload("short", "call", "exact128/50", 3),
            Workload("medium", "call", "exact16/400", 3),
            Workload("long", "long", f"exact1/{LONGEST}", 3, "latency"),
        ]
    if model != MAIN_MODEL:
        return [*_latency((16, 64, 256), 3), Workload("corpus", "call", "mixed/64", 3)]
    return [
        *_latency(LENGTHS, 10),
        *_latency((16, 64, 256), 2, kind="spaced"),
        Workload("startup", "startup", "exact1/16", 5, "latency"),
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
        *_size_quality_memory(same_bytes=256, blocks=10, beir=beir),
    ]


def quick_plan(model: str, *, beir: bool) -> list[Workload]:
    """Return a selection that takes minutes, for the main model only."""
    if model != MAIN_MODEL:
        return []
    return [
        *_latency((16, 64, 256), 2),
        Workload("startup", "startup", "exact1/16", 2, "latency"),
        Workload("corpus", "call", "mixed/100", 5),
        *_size_quality_memory(same_bytes=64, blocks=1, beir=beir),
    ]


def _latency(lengths: tuple[int, ...], repetitions: int, kind: str = "each") -> Iterator[Workload]:
    name = "latency" if kind == "each" else kind
    for tokens in lengths:
        yield Workload(f"{name}/{tokens}", kind, f"exact/{tokens}", repetitions, "latency")


def _size_quality_memory(*, same_bytes: int, blocks: int, beir: bool) -> Iterator[Workload]:
    yield Workload("size", "size", "")
    yield Workload("quality/stsb", "stsb", "sentences/")
    yield Workload("quality/cosine", "cosine", "sentences/")
    yield Workload("quality/same bytes", "same bytes", f"mixed/{same_bytes}")
    yield Workload("memory", "memory", "block", count=blocks)
    if beir:
        yield Workload("quality/scifact", "beir", "")
